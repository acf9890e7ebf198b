"""A budget file as a whole, once everything it inherits is merged in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, ClassVar

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from rollback_budget.budget_file.presets import preset_names
from rollback_budget.model.budget import Budget
from rollback_budget.model.duration import write_duration
from rollback_budget.model.mistake import Mistake, mistake, name_type, quote
from rollback_budget.model.query import MATCHERS, without_matchers
from rollback_budget.model.section import Placed
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.target import stage_mistakes
from rollback_budget.model.watch_settings import Watch

_EXTENDS = "extends"
_AREAS = "rollback_budget"


class BudgetFile(RolloutSpec):
    """A stop-loss rule for one rollout: beyond X for Y minutes, roll back.

    Keys that a file leaves out may come from `defaults.yaml` beside it or from the file it `extends`.
    """

    # It adds no field: what a file writes otherwise than the spec holds it is arranged below.
    filled_in: ClassVar[tuple[str, ...]] = ("name",)
    written_as: ClassVar[Mapping[str, str]] = {
        "budgets": _AREAS,
        "incident_commanders": "incident_commander",
    }

    @classmethod
    def known_keys(cls) -> list[str]:
        """Return the top-level keys of a file."""
        fields = [name for name in cls.model_fields if name not in ("version", "name")]
        return [_EXTENDS, *(cls.written_as.get(name, name) for name in fields)]

    @classmethod
    def missing(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield a mistake for every required key that is not there."""
        yield from super().missing({**data, "budgets": None})
        if _AREAS not in data:
            example = "{latency: {p95_delta_pct: +15, max_duration_min: 30}}"
            yield mistake((_AREAS,), f"`{_AREAS}` is missing; add `{_AREAS}: {example}`", "absent")

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield what is wrong between sections."""
        yield from super().mistakes(data)
        yield from _area_mistakes(data)
        yield from _query_mistakes(data)
        yield from _case_mistakes(data)
        release, baseline = data.get("release"), data.get("baseline")
        if isinstance(release, str) and release == baseline:
            why = f"`baseline` is {quote(release)}, the same as `release`"
            yield mistake(("baseline",), f"{why}: name the version to go back to")
        window = cls.peek(data, "window")
        if window == timedelta(0):
            yield mistake(("window",), "`window` must be longer than 0")
        watch = data.get("watch", {})
        if window:
            yield from stage_mistakes(window, data.get("target"))
        if window and isinstance(watch, dict):
            yield from _unreachable(window, watch, data.get(_AREAS))

    @classmethod
    def arrange(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """Give every budget its id and its area, by which it is called from then on."""
        keys = {key: name for name, key in cls.written_as.items()}
        known = [key for key in cls.known_keys() if key in data and key != _EXTENDS]
        fields = {keys.get(key, key): data[key] for key in known}
        if _AREAS in data:
            fields["budgets"] = list(_placed_budgets(data[_AREAS]))
        return fields

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe what a file writes otherwise than the spec holds it."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        properties = schema["properties"]
        budgets = properties["budgets"]
        name = {"enum": preset_names(), "type": "string"}
        presets = {"anyOf": [name, {"items": name, "type": "array"}]}
        written = {
            **{cls.written_as.get(field, field): described for field, described in properties.items()},
            _EXTENDS: {
                "anyOf": [{"type": "string"}, {"type": "null"}],
                "default": None,
                "description": "The file to build on, relative to this one.",
            },
            "metrics": {**properties["metrics"], "properties": {"preset": presets}},
            _AREAS: {
                "additionalProperties": {"anyOf": [budgets["items"], budgets]},
                "description": "Areas, each with one budget or a list of budgets.",
                "examples": ["{latency: {p95_delta_pct: +15, max_duration_min: 30}}"],
                "type": "object",
            },
        }
        return {**schema, "properties": {key: written[key] for key in cls.known_keys()}}


def _area_mistakes(data: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield a rule without budgets, and areas that hold something else."""
    if _AREAS not in data:
        return
    areas = data[_AREAS]
    if not isinstance(areas, dict) or not areas:
        why = "must be a mapping of areas, such as `latency:`, with at least one budget"
        yield mistake((_AREAS,), why, "wrong")
        return
    for area, value in areas.items():
        if not isinstance(value, dict | list) or value == []:
            found = "an empty list" if isinstance(value, list) else name_type(value)
            why = f"must hold a budget (a mapping) or a list of budgets, not {found}"
            yield mistake((_AREAS, area), why, "wrong")


def _placed_budgets(areas: object) -> Iterator[Placed]:
    """Yield each budget; those of the same area and key are numbered, so that an id names one of them."""
    seen: Counter[str] = Counter()
    for area, at, budget in _budgets_in(areas):
        key = next(iter(Budget.threshold_keys(budget) if isinstance(budget, dict) else ()), "")
        budget_id = f"{area}.{key}"
        seen[budget_id] += 1
        number = f"#{seen[budget_id]}" if seen[budget_id] > 1 else ""
        yield Placed(budget, (_AREAS, area, at), {"id": budget_id + number, "area": area})


def _budgets_in(areas: object) -> Iterator[tuple[str, int, object]]:
    for area, value in areas.items() if isinstance(areas, dict) else ():
        if isinstance(value, dict | list):
            for at, budget in enumerate(value if isinstance(value, list) else [value]):
                yield area, at, budget


def _unreachable(window: timedelta, watch: dict[str, Any], areas: object) -> Iterator[Mistake]:
    """Yield what the window is too short for."""
    grace, step = (Watch.peek(watch, name) or timedelta(0) for name in ("grace", "step"))
    watched = window - grace
    if watched < step or not watched > timedelta(0):
        blame = ("watch", "grace") if grace else ("window",)
        rest = f"`window` less `grace` is {write_duration(max(watched, timedelta(0)))}"
        yield mistake(blame, f"{rest}, too short for one look of {write_duration(step)}")
        return
    for area, at, budget in _budgets_in(areas):
        key, duration = Budget.longest(budget) or ("", timedelta(0))
        if duration >= watched:
            why = f"{write_duration(duration)} is not less than the {write_duration(watched)} watched"
            yield mistake((_AREAS, area, at, key), f"{why}: this budget could never be used up")


def _query_mistakes(data: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield the queries that the source of a budget cannot answer."""
    source, metrics = data.get("source"), data.get("metrics")
    type_ = source.get("type") if isinstance(source, dict) else None
    for name, metric in metrics.items() if isinstance(metrics, dict) else ():
        query = metric.get("query") if isinstance(metric, dict) else None
        place = ("metrics", name, "query")
        if type_ == "sql" and isinstance(query, dict):
            yield mistake(place, "a `sql` source needs a SELECT here, not a mapping")
        if type_ == "prometheus" and isinstance(query, str) and MATCHERS not in query:
            yield mistake(place, without_matchers("a query in PromQL"))


def _case_mistakes(data: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield what a table of requests lacks that the source of the samples does not say either."""
    log, shared = _log_of(data.get("cases", {})), _log_of(data)
    if log is None:
        return
    for key in ("table", "time"):
        if key not in log and (shared is None or key not in shared):
            where = ("cases", "source", "request_log")
            yield mistake(where, f"`{key}` is missing, here and in `source.request_log`")


def _log_of(data: object) -> dict[str, Any] | None:
    source = data.get("source") if isinstance(data, dict) else None
    log = source.get("request_log") if isinstance(source, dict) else None
    return log if isinstance(log, dict) else None
