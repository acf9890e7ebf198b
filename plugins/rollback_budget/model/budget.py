"""One line of the stop-loss rule, and the closed sets of words that it is written in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from rollback_budget.model.duration import DURATION_PATTERN
from rollback_budget.model.mistake import Mistake, WrongValueError, mistake, nearest, quote
from rollback_budget.model.scalar import read_duration, read_minutes, read_number
from rollback_budget.model.section import MayBeLeftOut, Section, Written, or_nothing


class Comparison(StrEnum):
    """How a release is held against its threshold; the last part of a threshold key."""

    DELTA_PCT = "delta_pct"
    DELTA_PP = "delta_pp"
    DELTA = "delta"
    INCREASE = "increase"
    ABOVE = "above"
    BELOW = "below"

    @property
    def needs_baseline(self) -> bool:
        """Whether the baseline's value enters the delta."""
        return self not in (Comparison.ABOVE, Comparison.BELOW)


class Tier(StrEnum):
    """A rolls back at once, B asks the incident commander, C records."""

    A = "a"
    B = "b"
    C = "c"


class Method(StrEnum):
    """How the engine decides that a budget is used up."""

    AUTO = "auto"
    SEQUENTIAL = "sequential"
    SIGN = "sign"
    THRESHOLD = "threshold"


class Accounting(StrEnum):
    """Whether a good look sets the burn to zero or leaves it."""

    CONSECUTIVE = "consecutive"
    CUMULATIVE = "cumulative"


class Worse(StrEnum):
    """The direction in which a metric gets worse."""

    HIGHER = "higher"
    LOWER = "lower"


class Severity(StrEnum):
    """How soon an eval debt is due: critical 3 days, major 10, minor 30."""

    CRITICAL = "critical"
    MAJOR = "major"
    MINOR = "minor"


_SUFFIXES = sorted((f"_{comparison.value}" for comparison in Comparison), key=len, reverse=True)
_SEVERITIES = {Tier.A: Severity.CRITICAL, Tier.B: Severity.MAJOR, Tier.C: Severity.MINOR}
_FIXED_DIRECTION = {
    Comparison.INCREASE: Worse.HIGHER,
    Comparison.ABOVE: Worse.HIGHER,
    Comparison.BELOW: Worse.LOWER,
}
_FORM = "`<metric>_<comparison>`"
_ROLLBACK_AT_ONCE = "immediate_rollback"
_DURATIONS = {"max_duration_min": read_minutes, "max_duration": read_duration}


def split_threshold_key(key: str) -> tuple[str, Comparison] | None:
    """Return the metric and the comparison of ``<metric>_<comparison>``, None for any other key."""
    for suffix in _SUFFIXES:
        if key.endswith(suffix) and key != suffix:
            return key.removesuffix(suffix), Comparison(suffix[1:])
    return None


class ThresholdRule(Section):
    """A rule that a file writes with exactly one key of the form `<metric>_<comparison>`.

    Its type has the fields ``comparison``, ``threshold`` and ``worse``, and :attr:`of_metric`.
    """

    of_metric: ClassVar[str] = "metric"
    """The field that holds the first half of the threshold key."""

    optional: ClassVar[tuple[str, ...]] = ("worse",)
    """Keys that say the same when they are empty as when they are not there."""

    @classmethod
    def required_keys(cls) -> list[str]:
        """Return nothing: of the threshold key only the form is known."""
        return []

    @classmethod
    def threshold_keys(cls, data: Mapping[str, Any]) -> list[str]:
        """Return the keys of the form ``<metric>_<comparison>``."""
        return [key for key in data if key not in cls.known_keys() and split_threshold_key(key)]

    @classmethod
    def unknown(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield unknown keys with the nearest option or threshold key."""
        for key in data:
            if key in cls.known_keys() or split_threshold_key(key):
                continue
            meant = _meant_threshold_key(key) or nearest(key, cls.known_keys())
            known = ", ".join([_FORM, *cls.known_keys()])
            hint = f"did you mean `{meant}`?" if meant else f"known here: {known}"
            yield mistake((key,), f"unknown key {quote(key)}; {hint}", "key")

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield what is wrong with the threshold and its direction."""
        yield from super().mistakes(data)
        thresholds = cls.threshold_keys(data)
        for key in thresholds:
            try:
                read_number(data[key])
            except WrongValueError as error:
                yield mistake((key,), str(error), "wrong")
        if len(thresholds) > 1:
            names = ", ".join(quote(key) for key in thresholds)
            yield mistake(
                (thresholds[1],), f"one budget has one threshold, here are {names}: make a list", "key"
            )
        elif not thresholds and not any(
            _meant_threshold_key(key) for key in data if key not in cls.known_keys()
        ):
            yield mistake((), f"no threshold: add one key {_FORM}, such as `p95_delta_pct: +15`")
        elif thresholds:
            yield from _direction_mistakes(thresholds[0], data)
        for key in thresholds:
            if ":" in key:
                why = "a colon in a metric's name would read as `metric:slice`"
                yield mistake((key,), f"{why}: rename it, or write `slice:`", "key")

    @classmethod
    def arrange(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """Take the threshold key apart, and say which direction is worse where the file does not."""
        fields = {
            key: value
            for key, value in super().arrange(data).items()
            if key in cls.known_keys() and not (key in cls.optional and value is None)
        }
        for key in cls.threshold_keys(data)[:1]:
            metric, comparison = split_threshold_key(key) or ("", Comparison.DELTA)
            try:
                threshold = read_number(data[key])
            except WrongValueError:
                continue
            direction = _direction(comparison, threshold) or Worse.HIGHER
            taken_apart = {cls.of_metric: metric, "comparison": comparison.value, "threshold": threshold}
            fields = {**taken_apart, "worse": direction.value, **fields}
        return fields

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe what a file writes: the threshold key as a pattern, so that editors know it."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        if handler.mode == "validation":
            written = {**schema["properties"], **cls.further_keys()}
            schema["properties"] = {
                key: {**written[key], "default": None} if key in cls.optional else written[key]
                for key in cls.known_keys()
            }
            suffixes = "|".join(comparison.value for comparison in Comparison)
            threshold = {
                "type": "number",
                "description": "The threshold; its sign says which direction is worse.",
            }
            schema["patternProperties"] = {f"^.+_({suffixes})$": threshold}
        return schema

    @classmethod
    def further_keys(cls) -> dict[str, JsonSchemaValue]:
        """Return the JSON schema of keys that are written otherwise than the field of their name."""
        return {}


def _fold_case(value: object) -> object:
    """Accept A as well as a."""
    return value.lower() if isinstance(value, str) else value


def _either_case(schema: JsonSchemaValue) -> JsonSchemaValue:  # noqa: ARG001
    return or_nothing({"enum": [*Tier, *(tier.upper() for tier in Tier)], "type": "string"})


class Budget(ThresholdRule):
    """One line of the stop-loss rule, with exactly one key of the form `<metric>_<comparison>`.

    ``threshold`` is in the unit of its comparison (percent, percentage points, the metric's unit, events).
    ``id`` and ``area`` come from where the budget stands.
    """

    optional: ClassVar[tuple[str, ...]] = ("worse", "tier", "min_samples", "severity")

    id: str
    area: str
    metric: str
    comparison: Comparison
    threshold: float
    worse: Annotated[Worse, MayBeLeftOut] = Field(
        description="Which direction is worse; the sign says it, too."
    )
    max_duration: Annotated[timedelta, MayBeLeftOut]
    tier: Annotated[Tier, Written(_fold_case, _either_case)] = Field(
        default=Tier.B, description="a rolls back, b asks (default), c records."
    )
    severity: Annotated[Severity, MayBeLeftOut] = Field(
        description="How soon an eval debt is due (tier a: critical, b: major, c: minor)."
    )
    method: Method = Field(default=Method.AUTO, description="How the engine decides.")
    accounting: Accounting = Field(
        default=Accounting.CONSECUTIVE, description="Whether a good look sets the burn to zero."
    )
    min_samples: Annotated[int, MayBeLeftOut] = Field(
        default=1, ge=0, description="Events per look below which it is unknown (1; for _increase 0)."
    )
    slice: str | None = Field(default=None, description="A part of the traffic that is measured on its own.")

    @property
    def key(self) -> str:
        """The threshold key as it stands in the file, ``<metric>_<comparison>``."""
        return f"{self.metric}_{self.comparison.value}"

    @property
    def series(self) -> str:
        """The name under which sources deliver this budget's samples: ``metric`` or ``metric:slice``."""
        return self.metric if self.slice is None else f"{self.metric}:{self.slice}"

    @classmethod
    def known_keys(cls) -> list[str]:
        """Return the options; threshold keys come on top."""
        options = ("tier", "method", "min_samples", "accounting", "severity")
        return ["slice", "worse", *_DURATIONS, "action", *options]

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield what is wrong with the threshold, its direction, the duration and the tier."""
        yield from super().mistakes(data)
        yield from _duration_mistakes(data, cls.threshold_keys(data))

    @classmethod
    def arrange(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """Take the threshold key apart, and fill in what the rest of the budget says."""
        fields = super().arrange(data)
        at_once = data.get("action") == _ROLLBACK_AT_ONCE
        tier = str(fields.setdefault("tier", (Tier.A if at_once else Tier.B).value)).lower()
        if tier in tuple(Tier):
            fields.setdefault("severity", _SEVERITIES[Tier(tier)].value)
        if fields.get("comparison") == Comparison.INCREASE:
            fields.setdefault("min_samples", 0)
        durations = [duration for key in _DURATIONS if (duration := cls.duration(data, key))]
        return {**fields, "max_duration": durations[0] if durations else timedelta(0)}

    @classmethod
    def duration(cls, data: Mapping[str, Any], key: str) -> timedelta | None:
        """Return the duration that raw ``data`` has under ``key``, when it can be read."""
        try:
            return _DURATIONS[key](data[key]) if data.get(key) is not None else None
        except WrongValueError:
            return None

    @classmethod
    def longest(cls, data: object) -> tuple[str, timedelta] | None:
        """Return the duration that raw ``data`` allows and the key it stands under, when it can be read."""
        for key in _DURATIONS:
            if isinstance(data, dict) and key in data:
                duration = cls.duration(data, key)
                return None if duration is None else (key, duration)
        return None

    @classmethod
    def further_keys(cls) -> dict[str, JsonSchemaValue]:
        """Return the JSON schema of a duration in minutes, of one in words, and of the action."""
        return {
            "max_duration_min": {
                **or_nothing({"type": "number", "minimum": 0}),
                "description": "How many minutes the release may be beyond the threshold.",
            },
            "max_duration": {
                **or_nothing({"type": "string", "pattern": DURATION_PATTERN}),
                "description": "The same as a duration; one of the two, or an action.",
            },
            "action": {
                **or_nothing({"const": _ROLLBACK_AT_ONCE, "type": "string"}),
                "description": "Tier A and no duration: roll back at the first bad look.",
            },
        }


def _duration_mistakes(data: Mapping[str, Any], thresholds: list[str]) -> Iterator[Mistake]:
    written = [key for key in data if key in _DURATIONS]
    action = data.get("action")
    if action is not None:
        for key in written:
            yield mistake((key,), f"`action: immediate_rollback` waits for nothing: remove `{key}`", "key")
        if str(data.get("tier") or "a").lower() != "a":
            yield mistake(("tier",), "`action: immediate_rollback` means tier a: remove one of the two")
    elif len(written) == 2:
        yield mistake((written[1],), "`max_duration_min` and `max_duration` say the same: keep one", "key")
    elif not written and any(not key.endswith("_increase") for key in thresholds[:1]):
        wanted = "`max_duration_min: 20`, or `action: immediate_rollback`"
        yield mistake((), f"no duration: say for how long the threshold may be crossed, with {wanted}")
    for key in ("action", *_DURATIONS):
        if key in data and data[key] is None:
            yield mistake((key,), f"`{key}` is empty; write a value, or remove it")
        elif data.get(key) == "":
            yield mistake((key,), "must not be empty", "wrong")
    if action not in (None, "", _ROLLBACK_AT_ONCE):
        yield mistake(("action",), f"Input should be {_ROLLBACK_AT_ONCE!r}", "literal_error")
    for key in written:
        if data[key] not in (None, ""):
            try:
                _DURATIONS[key](data[key])
            except WrongValueError as error:
                yield mistake((key,), str(error), "wrong")


def _meant_threshold_key(key: str) -> str | None:
    """Return the threshold key that ``key`` is a misspelling of, judged by its last words."""
    words = key.split("_")
    for tail in (2, 1):
        stem, comparison = "_".join(words[:-tail]), "_".join(words[-tail:])
        meant = nearest(comparison, [c.value for c in Comparison], cutoff=0.75)
        if stem and meant:
            return f"{stem}_{meant}"
    return None


def _direction(comparison: Comparison, threshold: float) -> Worse | None:
    """Return which direction is worse as far as the threshold itself says it."""
    if comparison in _FIXED_DIRECTION:
        return _FIXED_DIRECTION[comparison]
    if threshold == 0:
        return None
    return Worse.LOWER if threshold < 0 else Worse.HIGHER


def _direction_mistakes(key: str, data: Mapping[str, Any]) -> Iterator[Mistake]:
    _, comparison = split_threshold_key(key) or ("", Comparison.DELTA)
    try:
        threshold = read_number(data[key])
    except WrongValueError:
        return
    if comparison is Comparison.INCREASE and threshold < 0:
        yield mistake((key,), f"`{key}` counts events: the threshold cannot be negative, 0 tolerates none")
        return
    says = _direction(comparison, threshold)
    worse = data.get("worse")
    if says is None and worse is None:
        wanted = "`worse: lower` or `worse: higher`"
        yield mistake((key,), f"a threshold of 0 does not say which direction is worse: add {wanted}")
    elif says is not None and worse in tuple(Worse) and worse != says:
        yield mistake(
            ("worse",), f"`worse: {worse}` contradicts `{key}: {threshold:g}`, where {says} is worse"
        )
