"""What must not be written: e-mail addresses, phone and card numbers, keys and tokens, as spans of a text."""

from __future__ import annotations

import importlib
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from math import log2
from typing import TYPE_CHECKING

from rollback_budget.exceptions import CaseError

if TYPE_CHECKING:
    from types import ModuleType

#: A part of a text, end exclusive.
Span = tuple[int, int]
Detector = Callable[[str], Iterator[Span]]

_LOCAL = r"[\w.!#$&'*+/=?^`{|}~-]"
_EMAIL = re.compile(rf"(?:{_LOCAL}{{1,64}}|\"[^\"\n]{{1,64}}\")(?:@|%40)[\w-]{{1,63}}(?:\.[\w-]{{1,63}})*")
_PLUS_NUMBER = re.compile(r"(?:\+|(?<![\w.])00)[1-9](?:[ ()./-]{0,3}\d){6,14}(?!\d)")
_DIGIT_GROUPS = re.compile(r"\d+(?:[ .\-]{1,2}\d+)*")

#: Whole private keys; the libraries know their first line only.
_PEM = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----.*?(?:-----END [A-Z0-9 ]*-----|\Z)", re.DOTALL
)
#: Tokens whose beginning says what they are, beside those that detect-secrets knows.
_TOKENS = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{16,}|github_pat_\w{20,}|gh[pousr]_\w{30,}|hf_[A-Za-z0-9]{20,}|AIza[\w-]{30,}"
    r"|ya29\.[\w.-]{20,}|xox[a-z]-[\w-]{10,}|xapp-[\w-]{10,}|(?:pk|rk|sk)_(?:live|test)_\w{10,}|whsec_\w{10,}"
    r"|dapi[0-9a-f]{32}|lsv2_\w{20,}|gsk_\w{20,}|r8_\w{20,}|nvapi-[\w-]{20,}|npm_\w{30,}|pypi-[\w-]{40,}"
    r"|(?:pk|sk)-lf-[0-9a-f-]{30,}|eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?)"
)
#: A value behind a word that says that it is secret: ``password: x``, ``"api_key": "x"``, ``Bearer x``.
_WORD = r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|api[ _-]?key|access[ _-]?key|private[ _-]?key|auth)"
_ASSIGNED = re.compile(
    rf"(?i)\b[\w.-]{{0,40}}{_WORD}[\w.-]{{0,20}}[\\]?[\"']?\s{{0,3}}(?::=|=>|=|:)\s{{0,3}}"
    r"(?:\\?\"(?P<double>[^\"\\\n]+)|\\?'(?P<single>[^'\\\n]+)|(?P<bare>[^\s\"',;{}\[\]()<>]+))"
)
_BEARER = re.compile(r"(?i)\b(?:bearer|basic)\s+(?P<bare>[A-Za-z0-9._~+/-]{8,}=*)")
_RANDOM = re.compile(r"[A-Za-z0-9+/_=-]{32,}")
_HEX = re.compile(r"[0-9a-fA-F]+")

#: Keys of an object whose text is secret, whatever it looks like.
SECRET_KEY = re.compile(
    r"(?i)(?:^|[._-])(?:pass(?:word|wd|phrase)?|pwd|secret|(?:access|auth|refresh|id|session|csrf|api)?_?token"
    r"|api_?key|access_?key|private_?key|client_?secret|authorization|cookie|set_cookie)$"
)


def emails(text: str) -> Iterator[Span]:
    """Yield e-mail addresses, whole."""
    if "@" not in text and "%40" not in text:
        return
    for match in _EMAIL.finditer(text):
        yield _widened(text, match.span(), _is_of_address)


def phones(text: str, regions: Sequence[str]) -> Iterator[Span]:
    """Yield phone numbers: with a country code, or as written in one of ``regions`` (ISO 3166)."""
    yield from (match.span() for match in _PLUS_NUMBER.finditer(text))
    if sum(character.isdigit() for character in text) < 7:
        return
    library = _library("phonenumbers")
    for region in regions or (None,):
        matcher = library.PhoneNumberMatcher(
            text, region, leniency=library.Leniency.VALID, max_tries=sys.maxsize
        )
        yield from ((match.start, match.end) for match in matcher)


def cards(text: str) -> Iterator[Span]:
    """Yield payment card numbers: 13 to 19 digits, in groups or not, whose check digit is right."""
    for run in _DIGIT_GROUPS.finditer(text):
        groups = [
            (run.start() + found.start(), run.start() + found.end())
            for found in re.finditer(r"\d+", run.group())
        ]
        for first, (start, _) in enumerate(groups):
            for _, end in groups[first : first + 19]:
                digits = re.sub(r"\D", "", text[start:end])
                if len(digits) > 19:
                    break
                if len(digits) >= 13 and digits[0] in "23456" and _luhn(digits):
                    yield start, end


def secrets(text: str) -> Iterator[Span]:
    """Yield keys, tokens and passwords, by the patterns of detect-secrets and by the word before them."""
    yield from (match.span() for match in _PEM.finditer(text))
    for pattern in (*_known_secrets(), _TOKENS):
        for match in pattern.finditer(text):
            yield _widened(text, _trimmed(text, match.span()), _is_of_token)
    for pattern in (_ASSIGNED, _BEARER):
        for match in pattern.finditer(text):
            name = next(name for name, value in match.groupdict().items() if value is not None)
            if not _is_harmless(match[name]):
                yield _widened(text, match.span(name), _is_of_token) if name == "bare" else match.span(name)
    for match in _RANDOM.finditer(text):
        if _looks_random(match.group()):
            yield match.span()


def _looks_random(run: str) -> bool:
    """Whether a long run is a key rather than a word or a line of dashes, by detect-secrets' own limits."""
    if not any(character.isdigit() for character in run):
        return False
    entropy = _entropy(run)
    return entropy >= 3.0 if _HEX.fullmatch(run) else entropy >= 4.5


def _entropy(run: str) -> float:
    return -sum(count / len(run) * log2(count / len(run)) for count in Counter(run).values())


def _is_harmless(value: str) -> bool:
    """Whether a value in the place of a secret is a number of tokens, a word of JSON or a mark of ours."""
    return (
        value.lower() in ("null", "none", "true", "false", "string")
        or re.fullmatch(r"\d{1,6}", value) is not None
    )


@cache
def _known_secrets() -> tuple[re.Pattern[str], ...]:
    util = _library("detect_secrets.core.plugins.util")
    base = _library("detect_secrets.plugins.base")
    patterns: list[re.Pattern[str]] = []
    for plugin in util.get_mapping_from_secret_type_to_class().values():
        # Public addresses are no secrets, and entropy and keywords are looked at above, outside of code.
        if issubclass(plugin, base.RegexBasedDetector) and plugin.__name__ != "IPPublicDetector":
            patterns += plugin().denylist
    return tuple(patterns)


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CaseError(
            f"{name.partition('.')[0]} is not installed; without it nothing can be redacted, and no case is"
            " written: pip install 'rollback-budget[cases]'"
        ) from error


def _widened(text: str, span: Span, belongs: Callable[[str, int], bool]) -> Span:
    """Widen a span to the whole word that it lies in, so that no part of it is left."""
    start, end = span
    while start > 0 and belongs(text, start - 1):
        start -= 1
    while end < len(text) and belongs(text, end):
        end += 1
    return start, end


def _is_of_token(text: str, place: int) -> bool:
    character = text[place]
    if character == ".":
        return 0 < place < len(text) - 1 and text[place - 1].isalnum() and text[place + 1].isalnum()
    return character.isascii() and (character.isalnum() or character in "_-+/~=")


def _is_of_address(text: str, place: int) -> bool:
    character = text[place]
    if character == ".":
        return 0 < place < len(text) - 1 and text[place + 1].isalnum()
    return character.isalnum() or character in "_-+%@"


def _trimmed(text: str, span: Span) -> Span:
    start, end = span
    while start < end and text[start] in " \t\r\n\"'=:":
        start += 1
    while start < end and text[end - 1] in " \t\r\n\"'":
        end -= 1
    return start, end


def _luhn(digits: str) -> bool:
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0 and len(set(digits)) > 1


def of_patterns(patterns: Sequence[re.Pattern[str]]) -> Detector:
    """Return what finds matches of ``patterns``."""

    def find(text: str) -> Iterator[Span]:
        for pattern in patterns:
            yield from (match.span() for match in pattern.finditer(text) if match.end() > match.start())

    return find
