# Every target does its own set-up: `make demo` and `make test` each work on a fresh clone.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help venv demo test test-fast search check format docs bench bench-quality schema release-check dist clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

venv: $(STAMP) ## Build .venv with the exact versions of constraints.txt

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' constraints.txt)"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP) ## Show the main job: three rollouts on a real Airflow (KEEP=1 leaves it running)
	@$(BIN)/python -m demo

test: $(STAMP) ## Run every test; what needs a system package installs it or is skipped with a reason
	@tests/run.sh

test-fast: $(STAMP) ## Run the quick pure tests: no Airflow, no database, no network; within a minute on two cores
	@$(BIN)/pytest -q -n 2 --dist loadfile -m "pure and not slow" $$(grep -rl 'mark\.pure' tests --include='test_*.py')

search: $(STAMP) ## Look for new counterexamples: the property tests with inputs that they never saw
	@HYPOTHESIS_PROFILE=search $(BIN)/pytest -n 2 --dist load -m pure --hypothesis-show-statistics -p no:cacheprovider \
	    $$(grep -rlE '^@(given|rule)' tests)

check: $(STAMP) ## Format, lint, types, import contracts, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m rollback_budget.cli.main schema --check docs/

format: $(STAMP) ## Rewrite the code in the house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schema: $(STAMP) ## Rewrite the JSON schemas under docs/ from the types
	$(BIN)/rollback-budget schema --write docs/

docs: $(STAMP) ## Build the documentation into build/docs, offline; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q -b html -d build/docs-cache docs build/docs
	@echo "open build/docs/index.html"

bench: $(STAMP) ## Print the figures that the README quotes
	@$(BIN)/python -m bench

bench-quality: $(STAMP) ## Simulate how good the decisions are, and write docs/explanation/decision-quality.md
	@$(BIN)/python -m bench.decision_quality

release-check: $(STAMP) ## Check that version, changelog and tag (TAG=v1.2.3) agree
	$(BIN)/python .ci/check_release.py $(TAG)

dist: $(STAMP) ## Build wheel and source distribution into dist/
	rm -rf dist
	$(BIN)/uv build --quiet --out-dir dist

clean: ## Remove what the targets made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
