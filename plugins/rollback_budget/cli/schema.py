"""``rollback-budget schema``: the JSON schemas of what goes in and what comes out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def _budget() -> dict[str, Any]:
    from rollback_budget.budget_file.json_schema import budget_schema

    return budget_schema()


def _spec() -> dict[str, Any]:
    from rollback_budget.model.spec import RolloutSpec

    return _with_dialect(RolloutSpec.model_json_schema(mode="serialization"))


def _evaluation() -> dict[str, Any]:
    from rollback_budget.engine.evaluation import Evaluation

    return _with_dialect(Evaluation.model_json_schema(mode="serialization"))


def _with_dialect(schema: dict[str, Any]) -> dict[str, Any]:
    from rollback_budget.budget_file.json_schema import DIALECT

    return {"$schema": DIALECT, **schema}


def _case() -> dict[str, Any]:
    from rollback_budget.cases.case import EvalCase

    return _with_dialect(EvalCase.model_json_schema(mode="validation"))


SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {
    "budget": _budget,
    "case": _case,
    "evaluation": _evaluation,
    "spec": _spec,
}


def schema_text(name: str) -> str:
    """Return one schema as it is checked in."""
    return json.dumps(SCHEMAS[name](), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@click.command()
@click.argument("name", type=click.Choice(list(SCHEMAS)), required=False)
@click.option(
    "--write", "write_to", metavar="DIR", type=click.Path(path_type=Path), help="Write all into DIR."
)
@click.option(
    "--check", "check_in", metavar="DIR", type=click.Path(path_type=Path), help="Exit 1 if DIR differs."
)
@click.pass_context
def schema(ctx: click.Context, name: str | None, write_to: Path | None, check_in: Path | None) -> None:
    """Print the JSON schema NAME: of a budget file (default), of an eval case, of an evaluation, of a spec.

    Point an editor at the first one and it completes and checks budget files while you type.
    """
    if write_to is not None:
        write_to.mkdir(parents=True, exist_ok=True)
        for each in SCHEMAS:
            _path(write_to, each).write_text(schema_text(each), encoding="utf-8")
            click.echo(_path(write_to, each))
    elif check_in is not None:
        stale = [each for each in SCHEMAS if not _is_current(_path(check_in, each), each)]
        for each in stale:
            click.echo(f"{_path(check_in, each)} does not match the types: run `make schema`", err=True)
        ctx.exit(1 if stale else 0)
    else:
        click.echo(schema_text(name or "budget"), nl=False)


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.schema.json"


def _is_current(path: Path, name: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == schema_text(name)
