"""What is expected of every release because of one eval debt: one JSON file in git per debt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, JsonValue, ValidationError

from rollback_budget.exceptions import EvalError
from rollback_budget.files import replace_file
from rollback_budget.model.base import Frozen

#: The key of an expectation's ``meta`` that holds its role in this gate.
ROLE = "rollback_budget"


class Expected(Frozen):
    """One expectation, as Great Expectations writes it.

    :param meta: under ``rollback_budget``, which part it has: ``cases_present``, ``cases_judged``,
        ``cases_pass``, ``delta``, or nothing for one that a person wrote.
    """

    type: str
    kwargs: dict[str, JsonValue]
    severity: Literal["critical", "warning", "info"] = "critical"
    meta: dict[str, JsonValue] = Field(default_factory=dict)

    @property
    def role(self) -> str | None:
        """Which part it has; None for one that a person wrote."""
        role = self.meta.get(ROLE)
        return role if isinstance(role, str) else None


class CaseSet(Frozen):
    """The approved cases that a file of expectations was made of.

    :param file: name of the case file.
    :param sha256: of its content (hex), so that a change is noticed.
    :param inputs: by the id of each approved case, the SHA-256 of its input.
    :param breached: by the id of a case, the release that answered it wrongly.
    """

    file: str
    sha256: str
    inputs: dict[str, str]
    breached: dict[str, str] = Field(default_factory=dict)


class DebtExpectations(Frozen):
    """The expectations of one debt.

    :param budget: which budget was breached, for people.
    """

    schema_version: Literal[1] = 1
    debt: str
    service: str
    budget: str
    cases: CaseSet | None = None
    expectations: tuple[Expected, ...] = ()


class GateFolder:
    """The files of expectations. Every method raises EvalError.

    :param path: made when something is written and it is not there.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def read(self) -> dict[str, DebtExpectations]:
        """Return every debt's expectations by the debt's fingerprint."""
        found: dict[str, DebtExpectations] = {}
        for file in sorted(self.path.glob("*.json")):
            one = _read(file)
            if one.debt in found:
                raise EvalError(f"{file}: a second file of the debt {one.debt}; keep one of the two")
            found[one.debt] = one
        return found

    def write(self, expectations: DebtExpectations, name: str) -> Path:
        """Replace a debt's file whole or not at all; return its path.

        :param name: of a file that is not there yet, without its suffix.
        """
        try:
            mine = expectations.debt.encode()
            there = (file for file in sorted(self.path.glob("*.json")) if mine in file.read_bytes())
            own = (file for file in there if _read(file).debt == expectations.debt)
            file = next(own, self.path / f"{name}.json")
            self.path.mkdir(parents=True, exist_ok=True)
            replace_file(file, canonical(expectations))
        except OSError as error:
            raise EvalError(
                f"{self.path}: cannot be written ({error.strerror}); check the folder's rights and space"
            ) from error
        return file


def canonical(expectations: DebtExpectations) -> str:
    """Return the one JSON text of a file: sorted keys, two spaces, numbers without float noise."""
    return json.dumps(_rounded(expectations.model_dump(mode="json")), indent=2, sort_keys=True) + "\n"


def _read(file: Path) -> DebtExpectations:
    try:
        return DebtExpectations.model_validate_json(file.read_bytes())
    except OSError as error:
        raise EvalError(f"{file}: cannot be read ({error.strerror}); check its permissions") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:3])
        raise EvalError(
            f"{file}: not a file of expectations ({problems}); fix it, or run `rollback-budget gate compile`"
        ) from None


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return float(f"{value:.12g}")
        case dict():
            return {key: _rounded(item) for key, item in value.items()}
        case list():
            return [_rounded(item) for item in value]
        case _:
            return value
