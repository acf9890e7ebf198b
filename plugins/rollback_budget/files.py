"""Files that people and tasks share."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def replace_file(file: Path, content: str) -> None:
    """Write UTF-8 so that a reader sees the old file or the new one, whole. Raises OSError."""
    replace_bytes(file, content.encode("utf-8", errors="replace"))


def replace_bytes(file: Path, content: bytes) -> None:
    """Write so that a reader sees the old file or the new one, whole. Raises OSError."""
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.stem}-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            os.fchmod(stream.fileno(), 0o644)
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
