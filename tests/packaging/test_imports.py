"""What the package imports: declared distributions, and nothing that Airflow keeps for itself."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.pure

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "plugins" / "rollback_budget"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

#: Functions that import what their text names, so that it is loaded only when it is used.
LAZY_IMPORTERS = {"import_module", "_library"}


def imports_of(file: Path) -> Iterator[tuple[str, bool]]:
    """Yield what a file imports, as dotted names with the imported name; whether it is at module level."""
    tree = ast.parse(file.read_text())
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            yield from ((f"{node.module}.{alias.name}", id(node) in top) for alias in node.names)
        elif isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            texts = [arg for arg in (*node.args,) if isinstance(arg, ast.Constant)]
            for text in texts if called in LAZY_IMPORTERS else ():
                if isinstance(text.value, str):
                    yield text.value, False


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[\[<>=!~; ]", one, maxsplit=1)[0]) for one in requirements}


def distributions_of(name: str, installed: dict[str, list[str]]) -> set[str]:
    """Return the distributions that an imported name may come from."""
    first, *rest = name.split(".")
    if first == "airflow":
        if rest[:1] != ["providers"]:
            return {"apache-airflow"}
        return {f"apache-airflow-providers-{rest[1]}", f"apache-airflow-providers-{rest[1]}-{rest[2]}"}
    return {normal(one) for one in installed.get(first, ())} or {normal(first)}


def is_foreign(name: str) -> bool:
    first = name.partition(".")[0]
    return first not in sys.stdlib_module_names and first != "rollback_budget"


def test_every_distribution_that_is_imported_is_declared() -> None:
    installed = {name: list(found) for name, found in packages_distributions().items()}
    always = declared(PROJECT["dependencies"])
    extras = PROJECT["optional-dependencies"]
    optional = set().union(*(declared(names) for extra, names in extras.items() if extra != "dev"))
    missing = set()
    for file in sorted(PACKAGE.rglob("*.py")):
        for name, at_top in imports_of(file):
            if not is_foreign(name):
                continue
            # Only the process that the gate starts loads these modules, and only with the extra.
            may_be_optional = not at_top or file.name.startswith("gx_")
            allowed = always | optional if may_be_optional else always
            if not distributions_of(name, installed) & allowed:
                missing.add(f"{file.relative_to(PACKAGE)}: {name}")
    assert not missing


def test_every_declared_range_holds_for_what_is_tested() -> None:
    pinned = dict(
        line.split(";")[0].strip().split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    pins = {normal(name): version.strip() for name, version in pinned.items()}
    from packaging.requirements import Requirement

    extras = PROJECT["optional-dependencies"].items()
    requirements = [
        *PROJECT["dependencies"],
        *(one for name, more in extras if name != "dev" for one in more),
    ]
    for text in requirements:
        requirement = Requirement(text)
        version = pins.get(normal(requirement.name))
        assert version is not None, f"{text}: not in constraints.txt"
        assert requirement.specifier.contains(version, prereleases=True), f"{text}: tested with {version}"


def test_nothing_private_of_airflow_is_imported() -> None:
    private = {
        f"{file.relative_to(PACKAGE)}: {name}"
        for file in PACKAGE.rglob("*.py")
        for name, _ in imports_of(file)
        if name.startswith("airflow.") and any(part.startswith("_") for part in name.split("."))
    }
    assert not private


def test_annotations_are_shipped_for_type_checkers() -> None:
    assert (PACKAGE / "py.typed").is_file()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    # Everything below the package goes into the wheel; nothing is left out again.
    assert wheel == {"packages": ["plugins/rollback_budget"]}
