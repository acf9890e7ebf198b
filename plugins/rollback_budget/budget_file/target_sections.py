"""The section of a budget file that says who serves, and how to change it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import InitErrorDetails

from rollback_budget.budget_file.section import Section, mistake, read_number, wrong
from rollback_budget.budget_file.yaml_tree import name_type, quote
from rollback_budget.model.duration import write_duration
from rollback_budget.model.target import (
    FlagdTarget,
    HttpCheck,
    HttpHealth,
    HttpRead,
    HttpTarget,
    HttpWrite,
    MlflowTarget,
    Stage,
    UnleashTarget,
)


def read_share(value: object) -> float:
    """Accept a fraction of traffic, or a percentage with its sign."""
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            share = float(value.strip().removesuffix("%")) / 100
        except ValueError:
            raise wrong(f"{quote(value)} is no percentage; write 5% or 0.05") from None
    else:
        share = read_number(value)
    if not 0 < share <= 1:
        raise wrong(f"is {100 * share:g} % of the traffic; write more than 0% and at most 100%")
    return share


_Percentage = Annotated[str, Field(pattern=r"^[0-9.]+ ?%$")]
# The union keeps the scalar reader of plain numbers away, which knows no percent sign.
_Share = Annotated[
    float | int,
    BeforeValidator(read_share, json_schema_input_type=_Percentage | Annotated[float, Field(gt=0, le=1)]),
]
_VersionNames = Annotated[
    dict[str, str],
    BeforeValidator(
        lambda value: (
            {k: str(v) if type(v) is int else v for k, v in value.items()}
            if isinstance(value, dict)
            else value
        ),
        json_schema_input_type=dict[str, str | int],
    ),
]


class StageSection(Section, Stage):
    """One step of a rollout's ramp."""

    positive: ClassVar[tuple[str, ...]] = ("hold",)
    traffic: _Share = Field(examples=["5%"], description="The release's share of traffic: 5% or 0.05.")
    hold: timedelta = Field(examples=["1h"])


class _TargetSection(Section):
    """What every target's section has."""

    positive: ClassVar[tuple[str, ...]] = ("deadline", "request_timeout")
    ship_share: _Share = Field(default=0.5, description="The release's share of traffic while it is watched.")
    stages: tuple[StageSection, ...] = Field(default=(), description="Steps on the way to `ship_share`.")
    versions: _VersionNames = Field(default_factory=dict)

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield steps that do not climb."""
        yield from super().mistakes(data)
        last = 0.0
        for at, share in enumerate([*_shares(data.get("stages")), _share(data.get("ship_share", 0.5))]):
            loc: tuple[str | int, ...] = (
                ("stages", at) if at < len(_shares(data.get("stages"))) else ("stages",)
            )
            if share is not None and share <= last and data.get("stages"):
                why = f"the release's share goes from {100 * last:g} % to {100 * share:g} %"
                yield mistake(loc, f"{why}; stages climb, and `ship_share` is above the last of them")
            last = share or last


class HttpReadSection(Section, HttpRead):
    """How to ask who serves."""

    path: str = Field(examples=["/control/traffic"])


class HttpWriteSection(Section, HttpWrite):
    """How to set who serves."""

    path: str = Field(examples=["/control/traffic"])

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield what JSON cannot carry."""
        yield from super().mistakes(data)
        yield from not_json(data.get("body"), ("body",))


class HttpCheckSection(Section, HttpCheck):
    """A request that changes nothing and shows that a rollback would be accepted."""

    path: str = Field(examples=["/control/traffic?dryRun=All"])

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield what JSON cannot carry."""
        yield from super().mistakes(data)
        yield from not_json(data.get("body"), ("body",))


class HttpHealthSection(Section, HttpHealth):
    """A request that the baseline itself answers."""

    path: str = Field(examples=["/$baseline/healthz"])


class HttpTargetSection(_TargetSection, HttpTarget):
    """A router, gateway or deploy controller behind an Airflow ``http`` connection."""

    conn_id: str = Field(examples=["traffic_router"])
    read: HttpReadSection = Field(examples=["{path: /control/traffic}"])
    write: HttpWriteSection | None = Field(
        default=None,
        examples=["{path: /control/traffic, body: {...}}"],
        description="How to set who serves; left out where a team's own operators move all traffic.",
    )
    check: HttpCheckSection | None = None
    baseline_health: HttpHealthSection | None = None


class MlflowTargetSection(_TargetSection, MlflowTarget):
    """An alias in the registry of an MLflow tracking server."""

    conn_id: str = Field(examples=["mlflow"])
    model: str = Field(examples=["assistant"])

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield what an alias cannot do."""
        yield from super().mistakes(data)
        if data.get("stages"):
            yield mistake(
                ("stages",), "an alias holds no shares of traffic, so it has no `stages`; remove them"
            )
        if data.get("candidate_alias") is None and _share(data.get("ship_share", 0.5)) not in (1.0, None):
            why = "an alias alone has all traffic or none"
            yield mistake(
                ("ship_share",), f"{why}: write `ship_share: 100%`, or name a `candidate_alias` beside it"
            )
        if data.get("candidate_alias") is not None and data["candidate_alias"] == data.get(
            "alias", "champion"
        ):
            yield mistake(("candidate_alias",), "`candidate_alias` is the same as `alias`; name another one")


class UnleashTargetSection(_TargetSection, UnleashTarget):
    """A gradual rollout of a feature flag, by an Unleash-compatible admin API."""

    conn_id: str = Field(examples=["unleash"])
    flag: str = Field(examples=["assistant-model"])


class FlagdTargetSection(_TargetSection, FlagdTarget):
    """A ``fractional`` targeting in a JSON file of flagd."""

    path: str = Field(examples=["/etc/flagd/flags.json"])
    flag: str = Field(examples=["assistant-model"])


def _target_type(value: Any) -> Any:
    return value.get("type", "http") if isinstance(value, dict) else getattr(value, "type", "http")


TargetSection = Annotated[
    Annotated[HttpTargetSection, Tag("http")]
    | Annotated[MlflowTargetSection, Tag("mlflow")]
    | Annotated[UnleashTargetSection, Tag("unleash")]
    | Annotated[FlagdTargetSection, Tag("flagd")],
    Discriminator(
        _target_type,
        custom_error_type="rule",
        custom_error_message="`target.type` is http (meant where it is left out), mlflow, unleash or flagd",
    ),
]


def stage_mistakes(window: timedelta, target: object) -> Iterator[InitErrorDetails]:
    """Yield a ramp that would take longer than the window."""
    stages = target.get("stages") if isinstance(target, dict) else None
    if not isinstance(stages, list):
        return
    holds = [StageSection.peek(stage, "hold") for stage in stages if isinstance(stage, dict)]
    total = sum((hold for hold in holds if hold), timedelta(0))
    if total >= window:
        why = f"the stages hold for {write_duration(total)} together, the window is {write_duration(window)}"
        yield mistake(("target", "stages"), f"{why}: leave some of it for the whole `ship_share`")


def _share(value: object) -> float | None:
    try:
        return read_share(value)
    except Exception:
        return None


def _shares(stages: object) -> list[float | None]:
    each = stages if isinstance(stages, list) else []
    return [_share(stage.get("traffic")) if isinstance(stage, dict) else None for stage in each]


def not_json(value: object, loc: tuple[str | int, ...]) -> Iterator[InitErrorDetails]:
    """Yield a mistake for every value that JSON cannot carry, such as a date."""
    match value:
        case dict():
            for key, child in value.items():
                yield from not_json(child, (*loc, key))
        case list():
            for at, child in enumerate(value):
                yield from not_json(child, (*loc, at))
        case None | str() | int():
            return
        case float() if value - value == 0:
            return
        case _:
            yield mistake(loc, f"JSON has no {name_type(value).removeprefix('a ')} {value}; put it in quotes")
