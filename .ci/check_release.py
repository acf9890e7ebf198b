"""Check that version, changelog and (where one is given) tag agree: ``.ci/check_release.py [TAG]``.

Without a tag: ``__version__`` has a section in ``CHANGELOG.md``, and the sections stand newest first. With a
tag, moreover: the tag is ``v<version>``, the section has the date of the release, and *Unreleased* is empty.
"""

from __future__ import annotations

import re
import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADING = re.compile(r"^## \[(?P<name>[^\]]+)\](?: - (?P<date>\S+))?$", flags=re.MULTILINE)


def problems(version: str, changelog: str, tag: str | None = None) -> list[str]:
    """Return what is wrong, one sentence each."""
    headings = list(HEADING.finditer(changelog))
    names = [heading["name"] for heading in headings]
    found = []
    if names[:1] != ["Unreleased"]:
        found.append("the changelog does not begin with a section [Unreleased]")
    if names[1:] != sorted(names[1:], key=_order, reverse=True):
        found.append("the sections of the changelog do not stand newest first")
    if version not in names:
        return [*found, f"the changelog has no section for version {version}"]
    if tag is not None:
        if tag != f"v{version}":
            found.append(f"the tag is {tag}, but __version__ is {version}")
        if not _is_date(headings[names.index(version)]["date"]):
            found.append(
                f"the section for version {version} has no date: write `## [{version}] - YYYY-MM-DD`"
            )
        if len(headings) > 1 and changelog[headings[0].end() : headings[1].start()].strip():
            found.append("[Unreleased] is not empty: move its text to the version that is released")
    return found


def _order(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", name))


def _is_date(text: str | None) -> bool:
    try:
        return text is not None and bool(date.fromisoformat(text))
    except ValueError:
        return False


def main(arguments: list[str]) -> int:
    """Print every problem; exit code 1 when there is one."""
    source = (ROOT / "plugins" / "rollback_budget" / "__init__.py").read_text(encoding="utf-8")
    version = re.findall(r'^__version__ = "([^"]+)"$', source, flags=re.MULTILINE)[0]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = problems(version, changelog, arguments[0] if arguments else None)
    print("\n".join(found) or f"version {version} and the changelog agree")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
