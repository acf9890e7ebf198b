"""Selectors: which Prometheus series are meant, as PromQL writes them, ``name{label="value"}``."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_STRING = r'"(?:[^"\\\n]|\\.)*"|' + r"'(?:[^'\\\n]|\\.)*'|`[^`]*`"
_MATCHER = re.compile(
    rf"\s*(?P<label>[a-zA-Z_][a-zA-Z0-9_]*|{_STRING})\s*(?P<op>=~|!~|!=|=)\s*(?P<value>{_STRING})\s*"
)
_QUOTED_NAME = re.compile(rf"\s*(?P<name>{_STRING})\s*(?=[,}}])")


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a label; ``literal`` is the value as PromQL quotes it."""

    label: str
    operator: str
    literal: str

    def __str__(self) -> str:
        return f"{self.label}{self.operator}{self.literal}"


@dataclass(frozen=True, slots=True)
class Selector:
    """The series of one metric name that match all conditions."""

    name: str
    matchers: tuple[Matcher, ...] = ()

    def named(self, suffix: str) -> Selector:
        """Return the selector of the metric whose name ends with ``suffix``, too."""
        return Selector(self.name + suffix, self.matchers)


def parse_selector(text: str) -> Selector:
    """Read a selector; raises ValueError with a message that continues "is "."""
    rest = text.strip()
    name = _NAME.match(rest)
    found = name[0] if name else ""
    rest = rest[len(found) :].lstrip()
    if not rest:
        if not found:
            raise ValueError("empty; write the name of a metric")
        return Selector(found)
    if not rest.startswith("{") or not rest.endswith("}"):
        raise ValueError(
            'no selector; write a metric with its labels, such as requests_total{outcome="error"}'
        )
    at, matchers = 1, []
    while rest[at:].strip() != "}":
        quoted = None if found else _QUOTED_NAME.match(rest, at)
        matcher = _MATCHER.match(rest, at)
        if quoted:
            found, at = quoted["name"][1:-1], quoted.end()
        elif matcher:
            matchers.append(Matcher(matcher["label"], matcher["op"], matcher["value"]))
            at = matcher.end()
        else:
            raise ValueError(
                f'not readable at {rest[at:].strip()[:20]!r}; write label="value", and commas between'
            )
        if rest[at] == ",":
            at += 1
        elif rest[at] != "}" or at != len(rest) - 1:
            raise ValueError(f'not readable at {rest[at:][:20]!r}; write label="value", and commas between')
    if not found or "\\" in found:
        raise ValueError("without the name of a metric; write one before the braces")
    return Selector(found, tuple(matchers))
