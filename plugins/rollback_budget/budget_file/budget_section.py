"""One budget as a file writes it: a threshold key, a duration or an action, and options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, WithJsonSchema, field_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

from rollback_budget.budget_file.section import Section, mistake, nearest, read_minutes, read_number
from rollback_budget.budget_file.yaml_tree import quote
from rollback_budget.model.budget import Accounting, Budget, Comparison, Method, Severity, Tier, Worse

Minutes = Annotated[
    timedelta,
    BeforeValidator(read_minutes),
    WithJsonSchema({"type": "number", "minimum": 0}),
]

_SUFFIXES = sorted((f"_{comparison.value}" for comparison in Comparison), key=len, reverse=True)
_SEVERITIES = {Tier.A: Severity.CRITICAL, Tier.B: Severity.MAJOR, Tier.C: Severity.MINOR}
_FIXED_DIRECTION = {
    Comparison.INCREASE: Worse.HIGHER,
    Comparison.ABOVE: Worse.HIGHER,
    Comparison.BELOW: Worse.LOWER,
}
_FORM = "`<metric>_<comparison>`"
_DURATIONS = ("max_duration_min", "max_duration")


def split_threshold_key(key: str) -> tuple[str, Comparison] | None:
    """Return the metric and the comparison of ``<metric>_<comparison>``, None for any other key."""
    for suffix in _SUFFIXES:
        if key.endswith(suffix) and key != suffix:
            return key.removesuffix(suffix), Comparison(suffix[1:])
    return None


class ThresholdSection(Section):
    """A rule with exactly one key of the form `<metric>_<comparison>`."""

    metric: str
    comparison: Comparison
    threshold: float
    slice: str | None = Field(default=None, description="A part of the traffic that is measured on its own.")
    worse: Worse | None = Field(default=None, description="Which direction is worse; the sign says it, too.")

    @classmethod
    def known_keys(cls) -> list[str]:
        """Return the options; threshold keys come on top."""
        return [name for name in cls.model_fields if name not in ("metric", "comparison", "threshold")]

    @classmethod
    def threshold_keys(cls, data: Mapping[str, Any]) -> list[str]:
        """Return the keys of the form ``<metric>_<comparison>``."""
        return [key for key in data if key not in cls.known_keys() and split_threshold_key(key)]

    @classmethod
    def unknown(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield unknown keys with the nearest option or threshold key."""
        for key in data:
            if key in cls.known_keys() or split_threshold_key(key):
                continue
            meant = _meant_threshold_key(key) or nearest(key, cls.known_keys())
            known = ", ".join([_FORM, *cls.known_keys()])
            hint = f"did you mean `{meant}`?" if meant else f"known here: {known}"
            yield mistake((key,), f"unknown key {quote(key)}; {hint}", "key")

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield what is wrong with the threshold and its direction."""
        yield from super().mistakes(data)
        thresholds = cls.threshold_keys(data)
        for key in thresholds:
            try:
                read_number(data[key])
            except PydanticCustomError as error:
                yield mistake((key,), error.message(), "wrong")
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
        """Take the threshold key apart."""
        fields = {key: value for key, value in data.items() if key in cls.known_keys()}
        for key in cls.threshold_keys(data)[:1]:
            metric, comparison = split_threshold_key(key) or ("", Comparison.DELTA)
            try:
                threshold = read_number(data[key])
            except PydanticCustomError:
                continue
            fields |= {"metric": metric, "comparison": comparison, "threshold": threshold}
        return fields

    @property
    def direction(self) -> Worse:
        """Which direction is worse."""
        return self.worse or _direction(self.comparison, self.threshold) or Worse.HIGHER

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe the threshold key as a pattern, so that editors know it."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        schema["properties"] = {key: schema["properties"][key] for key in cls.known_keys()}
        suffixes = "|".join(comparison.value for comparison in Comparison)
        threshold = {
            "type": "number",
            "description": "The threshold; its sign says which direction is worse.",
        }
        schema["patternProperties"] = {f"^.+_({suffixes})$": threshold}
        return schema


class BudgetSection(ThresholdSection):
    """One line of the stop-loss rule, with exactly one key of the form `<metric>_<comparison>`."""

    max_duration_min: Minutes | None = Field(
        default=None, description="How many minutes the release may be beyond the threshold."
    )
    max_duration: timedelta | None = Field(
        default=None, description="The same as a duration; one of the two, or an action."
    )
    action: Literal["immediate_rollback"] | None = Field(
        default=None, description="Tier A and no duration: roll back at the first bad look."
    )
    tier: Tier | None = Field(default=None, description="a rolls back, b asks (default), c records.")
    method: Method = Field(default=Method.AUTO, description="How the engine decides.")
    min_samples: int | None = Field(
        default=None, ge=0, description="Events per look below which it is unknown (1; for _increase 0)."
    )
    accounting: Accounting = Field(
        default=Accounting.CONSECUTIVE, description="Whether a good look sets the burn to zero."
    )
    severity: Severity | None = Field(
        default=None, description="How soon an eval debt is due (tier a: critical, b: major, c: minor)."
    )

    @field_validator(
        "tier", mode="before", json_schema_input_type=Literal["a", "b", "c", "A", "B", "C"] | None
    )
    @classmethod
    def fold_case(cls, value: object) -> object:
        """Accept A as well as a."""
        return value.lower() if isinstance(value, str) else value

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield what is wrong with the threshold, its direction, the duration and the tier."""
        yield from super().mistakes(data)
        yield from cls._duration_mistakes(data, cls.threshold_keys(data))

    @classmethod
    def _duration_mistakes(cls, data: Mapping[str, Any], thresholds: list[str]) -> Iterator[InitErrorDetails]:
        written = [key for key in data if key in _DURATIONS]
        if data.get("action") is not None:
            for key in written:
                yield mistake(
                    (key,), f"`action: immediate_rollback` waits for nothing: remove `{key}`", "key"
                )
            if str(data.get("tier") or "a").lower() != "a":
                yield mistake(("tier",), "`action: immediate_rollback` means tier a: remove one of the two")
        elif len(written) == 2:
            yield mistake(
                (written[1],), "`max_duration_min` and `max_duration` say the same: keep one", "key"
            )
        elif not written and any(not key.endswith("_increase") for key in thresholds[:1]):
            wanted = "`max_duration_min: 20`, or `action: immediate_rollback`"
            yield mistake((), f"no duration: say for how long the threshold may be crossed, with {wanted}")
        for key in ("action", *_DURATIONS):
            if key in data and data[key] is None:
                yield mistake((key,), f"`{key}` is empty; write a value, or remove it")

    @classmethod
    def longest(cls, data: object) -> tuple[str, timedelta] | None:
        """Return the duration that raw ``data`` allows and the key it stands under, when it can be read."""
        for key in _DURATIONS:
            if isinstance(data, dict) and key in data:
                try:
                    duration = read_minutes(data[key]) if key == "max_duration_min" else cls.peek(data, key)
                except PydanticCustomError:
                    return None
                return (key, duration) if isinstance(duration, timedelta) else None
        return None

    def freeze(self, area: str, budget_id: str) -> Budget:
        """Return the budget of the frozen spec, with every default filled in."""
        tier = self.tier or (Tier.A if self.action else Tier.B)
        counted = self.comparison is Comparison.INCREASE
        return Budget(
            id=budget_id,
            area=area,
            metric=self.metric,
            comparison=self.comparison,
            threshold=self.threshold,
            worse=self.direction,
            max_duration=next((d for d in (self.max_duration_min, self.max_duration) if d), timedelta(0)),
            tier=tier,
            severity=self.severity or _SEVERITIES[tier],
            method=self.method,
            accounting=self.accounting,
            min_samples=self.min_samples if self.min_samples is not None else int(not counted),
            slice=self.slice,
        )


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


def _direction_mistakes(key: str, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    _, comparison = split_threshold_key(key) or ("", Comparison.DELTA)
    try:
        threshold = read_number(data[key])
    except PydanticCustomError:
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
