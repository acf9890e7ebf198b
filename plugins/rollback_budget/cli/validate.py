"""``rollback-budget validate``: every problem of every budget, one line each."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click

from rollback_budget.exceptions import Problem, SpecError


@dataclass
class FileReport:
    """What was found in one budget file."""

    path: str
    name: str | None = None
    release: str | None = None
    sha256: str | None = None
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    missing_to_ship: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the budget loads."""
        return not self.problems


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--traffic",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Requests per minute and version: warn where a budget is slow, and recommend a fast line.",
)
@click.pass_context
def validate(ctx: click.Context, paths: tuple[Path, ...], as_json: bool, traffic: float | None) -> None:
    """Check budget files, or every budget in a folder.

    Prints each problem as `file:line:column: what is wrong, what would be right`. What a budget lacks for
    shipping is a warning. Exits 0 when every budget loads, else 1.
    """
    reports = [report for path in paths for report in _check(path, traffic)]
    ok = all(report.ok for report in reports)
    if as_json:
        each = [{"ok": report.ok, **asdict(report)} for report in reports]
        click.echo(json.dumps({"ok": ok, "budgets": each}, indent=2, ensure_ascii=False))
    else:
        _print(reports)
    ctx.exit(0 if ok else 1)


def _check(path: Path, traffic: float | None) -> Iterable[FileReport]:
    from rollback_budget.budget_file.load import find_budgets, is_budget

    if not path.is_dir():
        if path.is_file() and not is_budget(path):
            wrong = (
                "this is a shared fragment, not a budget: validate the folder, or a budget that builds on it"
            )
            return [FileReport(str(path), problems=[Problem(str(path), 1, 1, wrong)])]
        return [_check_file(path, traffic)]
    budgets = find_budgets(path)
    if not budgets:
        wrong = (
            "no budget in this folder: a budget is a .yaml file that is not defaults.yaml or _something.yaml"
        )
        return [FileReport(str(path), problems=[Problem(str(path), 1, 1, wrong)])]
    reports = [_check_file(budget, traffic) for budget in budgets]
    first: dict[str, str] = {}
    for budget, report in zip(budgets, reports, strict=True):
        other = first.setdefault(budget.stem, str(budget))
        if other != str(budget):
            wrong = f"{other} has the same name, and rollouts are distinguished by it: rename one"
            report.problems.append(Problem(str(budget), 1, 1, wrong))
    return reports


def _check_file(path: Path, traffic: float | None) -> FileReport:
    from rollback_budget.budget_file import load_budget, preflight_problems, warnings

    try:
        spec = load_budget(path)
    except SpecError as error:
        return FileReport(str(path), problems=list(error.problems))
    slow = []
    if traffic is not None:
        from rollback_budget.engine.detection import slow_budgets

        slow = slow_budgets(spec, traffic)
    return FileReport(
        str(path),
        name=spec.name,
        release=spec.release,
        sha256=spec.sha256,
        warnings=[*warnings(spec), *slow],
        missing_to_ship=preflight_problems(spec),
    )


def _print(reports: list[FileReport]) -> None:
    shared: set[Problem] = set()
    for report in reports:
        for problem in report.problems:
            # A mistake in a shared file is every budget's, and worth one line.
            if problem not in shared:
                click.echo(str(problem))
            shared.add(problem)
        if report.ok:
            click.echo(f"{report.path}: OK {report.name} sha256:{(report.sha256 or '')[:12]}")
        for warning in report.warnings:
            click.echo(f"{report.path}: warning: {warning}")
        for missing in report.missing_to_ship:
            click.echo(f"{report.path}: warning: will not ship: {missing}")
