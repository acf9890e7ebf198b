"""Who serves a rollout's traffic, and how to read and change it, as the spec says it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.json_schema import JsonSchemaValue

from rollback_budget.model.by_type import ByType
from rollback_budget.model.duration import write_duration
from rollback_budget.model.json_request import not_json
from rollback_budget.model.mistake import Loc, Mistake, WrongValueError, mistake, quote, wrong
from rollback_budget.model.scalar import read_number
from rollback_budget.model.section import Section, Written
from rollback_budget.registry import Group


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


def _or_percentage(schema: JsonSchemaValue) -> JsonSchemaValue:
    return {"anyOf": [{"type": "string", "pattern": r"^[0-9.]+ ?%$"}, schema]}


def _whole_numbers_as_names(value: object) -> object:
    """Read a version that is a whole number as its name."""
    if not isinstance(value, dict):
        return value
    return {key: str(name) if type(name) is int else name for key, name in value.items()}


def _or_whole_numbers(schema: JsonSchemaValue) -> JsonSchemaValue:
    return {**schema, "additionalProperties": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}


_Share = Annotated[float, Field(gt=0, le=1), Written(read_share, _or_percentage)]
_VersionNames = Annotated[dict[str, str], Written(_whole_numbers_as_names, _or_whole_numbers)]


class Stage(Section):
    """One step of a rollout's ramp.

    :param traffic: the release's fraction of traffic, between 0 and 1.
    :param hold: how long it stays before the next step.
    """

    positive: ClassVar[tuple[str, ...]] = ("hold",)

    traffic: _Share = Field(examples=["5%"], description="The release's share of traffic: 5% or 0.05.")
    hold: timedelta = Field(examples=["1h"])


class TargetSettings(Section):
    """What every target has; subclasses say ``type`` as a literal, and what else they need.

    A third party's settings are a subclass, too: a registered target names them as ``settings``.

    :param ship_share: fraction of traffic for the release while it is watched, between 0 and 1.
    :param stages: steps on the way to ``ship_share``; none: it gets that share at once.
    :param versions: what the control plane calls a version of the budget file, where that is another name.
    :param deadline: how long a rollback may take until it is verified.
    :param request_timeout: how long one request may take.
    :param dry_run: ``write_current`` makes preflight write the shares that are there, to prove that it may.
    :param type: by which a budget file chooses the target.
    """

    positive: ClassVar[tuple[str, ...]] = ("deadline", "request_timeout")

    ship_share: _Share = Field(default=0.5, description="The release's share of traffic while it is watched.")
    stages: tuple[Stage, ...] = Field(default=(), description="Steps on the way to `ship_share`.")
    versions: _VersionNames = Field(default_factory=dict)
    deadline: timedelta = timedelta(minutes=5)
    request_timeout: timedelta = timedelta(seconds=10)
    dry_run: Literal["none", "write_current"] = "none"
    type: str

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield steps that do not climb."""
        yield from super().mistakes(data)
        stages = _shares(data.get("stages"))
        last = 0.0
        for at, share in enumerate([*stages, cls.share(data)]):
            loc: Loc = ("stages", at) if at < len(stages) else ("stages",)
            if share is not None and share <= last and data.get("stages"):
                why = f"the release's share goes from {100 * last:g} % to {100 * share:g} %"
                yield mistake(loc, f"{why}; stages climb, and `ship_share` is above the last of them")
            last = share or last

    @classmethod
    def share(cls, data: Mapping[str, Any]) -> float | None:
        """Return the share that raw ``data`` gives the release, None when it cannot be read."""
        return _share(data.get("ship_share", cls.model_fields["ship_share"].default))

    @property
    def ramp(self) -> tuple[float, ...]:
        """The shares of traffic that the release gets one after another."""
        return (*(stage.traffic for stage in self.stages), self.ship_share)


def stage_mistakes(window: timedelta, target: object) -> Iterator[Mistake]:
    """Yield a ramp that would take longer than the window."""
    stages = target.get("stages") if isinstance(target, dict) else None
    if not isinstance(stages, list):
        return
    holds = [Stage.peek(stage, "hold") for stage in stages if isinstance(stage, dict)]
    total = sum((hold for hold in holds if hold), timedelta(0))
    if total >= window:
        why = f"the stages hold for {write_duration(total)} together, the window is {write_duration(window)}"
        yield mistake(("target", "stages"), f"{why}: leave some of it for the whole `ship_share`")


def _share(value: object) -> float | None:
    try:
        return read_share(value)
    except WrongValueError:
        return None


def _shares(stages: object) -> list[float | None]:
    each = stages if isinstance(stages, list) else []
    return [_share(stage.get("traffic")) if isinstance(stage, dict) else None for stage in each]


class HttpRead(Section):
    """How to ask who serves.

    :param weights: JMESPath to an object of version -> share of traffic, or to a list of pairs of those (any
        scale; shares are normalised).
    :param release_share: JMESPath to the release's share alone, where the control plane names no versions;
        the baseline has the rest. Then ``weights`` is not used.
    :param scale: what stands for all traffic in ``release_share``: 1, or 100 for percent.
    :param revision: JMESPath to a revision or ETag that changes with every change; None when there is none.
    """

    method: Literal["GET", "POST"] = "GET"
    path: str = Field(examples=["/control/traffic"])
    weights: str = "weights"
    release_share: str | None = None
    scale: float = Field(default=1.0, gt=0)
    revision: str | None = None


class _HttpChange(Section):
    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield what JSON cannot carry."""
        yield from super().mistakes(data)
        yield from not_json(data.get("body"), ("body",))


class HttpWrite(_HttpChange):
    """How to set who serves.

    Whole strings (keys and values) in ``body`` and ``headers`` that equal ``$release``, ``$baseline``,
    ``$release_share``, ``$baseline_share``, ``$release_percent``, ``$baseline_percent``, ``$revision`` or
    ``$idempotency_key`` are replaced by data, and so are path segments (percent-encoded). Nothing is ever
    interpolated as text.
    """

    method: Literal["PUT", "POST", "PATCH"] = "PUT"
    path: str = Field(examples=["/control/traffic"])
    body: Any = None
    headers: dict[str, str] = Field(default_factory=dict)


class HttpCheck(_HttpChange):
    """A request that changes nothing, and shows before shipping that a rollback would be accepted.

    The placeholders of :class:`HttpWrite` stand for what is served now. Any 2xx is good.
    """

    method: Literal["GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH"] = "GET"
    path: str = Field(examples=["/control/traffic?dryRun=All"])
    body: Any = None
    headers: dict[str, str] = Field(default_factory=dict)


class HttpHealth(Section):
    """A request that the baseline itself answers.

    :param conn_id: another ``http`` connection than the target's; None for the same.
    :param status: the status of a healthy answer.
    :param healthy: JMESPath that gives true for a healthy answer; None: the status says it all.
    """

    path: str = Field(examples=["/$baseline/healthz"])
    conn_id: str | None = None
    status: int = Field(default=200, ge=100, le=599)
    healthy: str | None = None


class HttpTarget(TargetSettings):
    """A router, gateway or deploy controller behind an Airflow ``http`` connection.

    :param write: None when a team's own operators move the traffic, and it is only read here.
    :param check: what preflight asks to know that it may write; None: nothing is asked.
    :param baseline_health: what the baseline is asked before shipping and at a rollback; None: nothing.
    """

    type: Literal["http"] = "http"
    conn_id: str = Field(examples=["traffic_router"])
    read: HttpRead = Field(examples=["{path: /control/traffic}"])
    write: HttpWrite | None = Field(
        default=None,
        examples=["{path: /control/traffic, body: {...}}"],
        description="How to set who serves; left out where a team's own operators move all traffic.",
    )
    check: HttpCheck | None = None
    baseline_health: HttpHealth | None = None


class MlflowTarget(TargetSettings):
    """An alias in the registry of an MLflow tracking server, behind an Airflow ``http`` connection.

    :param model: the registered model.
    :param alias: the alias by which the service loads what it serves.
    :param candidate_alias: the alias by which it loads what gets ``ship_share`` of its traffic; None: there
        is just ``alias``, which has all of it.
    :param version_tag: the tag of a model version that holds a version's name; None: ``versions`` says which
        model version it is, or the name itself is the number.
    """

    type: Literal["mlflow"] = "mlflow"
    conn_id: str = Field(examples=["mlflow"])
    model: str = Field(examples=["assistant"])
    alias: str = "champion"
    candidate_alias: str | None = None
    version_tag: str | None = None

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield what an alias cannot do."""
        yield from super().mistakes(data)
        candidate = data.get("candidate_alias")
        if data.get("stages"):
            yield mistake(
                ("stages",), "an alias holds no shares of traffic, so it has no `stages`; remove them"
            )
        if candidate is None and cls.share(data) not in (1.0, None):
            why = "an alias alone has all traffic or none"
            yield mistake(
                ("ship_share",), f"{why}: write `ship_share: 100%`, or name a `candidate_alias` beside it"
            )
        if candidate is not None and candidate == data.get("alias", cls.model_fields["alias"].default):
            yield mistake(("candidate_alias",), "`candidate_alias` is the same as `alias`; name another one")


class UnleashTarget(TargetSettings):
    """A gradual rollout of a feature flag, by an Unleash-compatible admin API behind an ``http`` connection.

    :param by: ``rollout``: the flag is on for the release's share of the traffic. ``variants``: the rollout
        stays, and the weights of its variants, named after the versions, divide the traffic.
    """

    type: Literal["unleash"] = "unleash"
    conn_id: str = Field(examples=["unleash"])
    project: str = "default"
    flag: str = Field(examples=["assistant-model"])
    environment: str = "production"
    by: Literal["rollout", "variants"] = "rollout"


class FlagdTarget(TargetSettings):
    """A ``fractional`` targeting in a JSON file of flagd, the reference provider of OpenFeature.

    :param path: of the file, on every worker.
    """

    type: Literal["flagd"] = "flagd"
    path: str = Field(examples=["/etc/flagd/flags.json"])
    flag: str = Field(examples=["assistant-model"])


Target = Annotated[
    TargetSettings,
    ByType(
        ours=(HttpTarget, MlflowTarget, UnleashTarget, FlagdTarget),
        wanted="`target.type` is http (meant where it is left out), mlflow, unleash or flagd",
        default="http",
        group=Group.TARGETS,
        base=TargetSettings,
    ),
]
