"""What the files of an export are made of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def template(name: str) -> str:
    """Return a file that is written as it is."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def ascii_lines(records: Sequence[Any]) -> str:
    """Return JSON Lines in ASCII: no tool's idea of an encoding, or of a line, can change what they hold."""
    return "".join(json.dumps(record, sort_keys=True) + "\n" for record in records)
