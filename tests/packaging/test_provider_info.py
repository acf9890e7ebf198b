"""What Airflow reads of this provider, against the files: nothing is missing and nothing is invented."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import airflow
import jsonschema
import pytest
from airflow.sdk import BaseNotifier, BaseOperator, BaseOperatorLink, BaseSensorOperator
from airflow.triggers.base import BaseTrigger

from rollback_budget.common import config
from rollback_budget.get_provider_info import get_provider_info

pytestmark = pytest.mark.airflow

PACKAGE = Path(inspect.getfile(config)).parents[1]
BASES: dict[str, type] = {
    "operators": BaseOperator,
    "sensors": BaseSensorOperator,
    "triggers": BaseTrigger,
    "notifications": BaseNotifier,
    "links": BaseOperatorLink,
}


def classes_in(folder: str) -> set[str]:
    """Return the path of every public class of Airflow's kind for ``folder`` that a module there defines."""
    found = set()
    for file in (PACKAGE / folder).glob("[a-z]*.py"):
        name = f"rollback_budget.{folder}.{file.stem}"
        module = importlib.import_module(name)
        found |= {
            f"{name}.{one.__name__}"
            for one in vars(module).values()
            if inspect.isclass(one) and issubclass(one, BASES[folder]) and one.__module__ == name
            if not one.__name__.startswith("_")
        }
    return found


def listed(kind: str) -> set[str]:
    """Return the modules that are listed as ``kind``."""
    return {module for entry in get_provider_info()[kind] for module in entry["python-modules"]}


def test_airflow_accepts_it() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


@pytest.mark.parametrize("kind", ["operators", "sensors", "triggers"])
def test_every_module_with_such_a_class_is_listed_and_no_other(kind: str) -> None:
    assert listed(kind) == {path.rpartition(".")[0] for path in classes_in(kind)}


def test_every_hook_module_is_listed() -> None:
    assert listed("hooks") == {
        f"rollback_budget.hooks.{file.stem}" for file in (PACKAGE / "hooks").glob("[a-z]*.py")
    }


@pytest.mark.parametrize(("kind", "folder"), [("notifications", "notifications"), ("extra-links", "links")])
def test_every_such_class_is_listed(kind: str, folder: str) -> None:
    assert set(get_provider_info()[kind]) == classes_in(folder)


def test_every_class_of_airflow_lives_in_the_folder_of_its_kind() -> None:
    """So that an engineer finds an operator in ``operators/`` and a sensor in ``sensors/``."""
    folders = ("operators", "sensors", "triggers")
    suffixes = {**{folder[:-1].title(): folder for folder in folders}, "Notifier": "notifications"}
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                for suffix, folder in suffixes.items():
                    if node.name.endswith(suffix) and node.name != suffix:
                        assert file.relative_to(PACKAGE).parts[0] == folder, f"{file}: {node.name}"


def test_every_entry_belongs_to_an_integration_that_is_described() -> None:
    info = get_provider_info()
    known = {entry["integration-name"] for entry in info["integrations"]}
    for kind in ("operators", "sensors", "triggers", "hooks"):
        assert {entry["integration-name"] for entry in info[kind]} <= known


def test_every_option_that_is_read_is_described() -> None:
    described = set(get_provider_info()["config"]["rollback_budget"]["options"])
    read = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
                section = node.args[0]
                if isinstance(section, ast.Name) and section.id == "SECTION":
                    read.add(node.args[1].value)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_folder":
                assert isinstance(node.args[0], ast.Constant)
                read.add(node.args[0].value)
    assert read == described


@pytest.mark.parametrize("lazy", [True, False])
def test_the_plugin_is_listed_where_listing_it_does_not_load_it_twice(
    lazy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: Any = SimpleNamespace(LAZY_LOAD_PROVIDERS=lazy)
    monkeypatch.setitem(sys.modules, "airflow.settings", settings)
    plugins = [entry["plugin-class"] for entry in get_provider_info()["plugins"]]
    assert plugins == (["rollback_budget.plugin.RollbackBudgetPlugin"] if lazy else [])
