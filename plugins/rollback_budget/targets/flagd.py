"""A flag in a JSON file of flagd, the reference provider of OpenFeature."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import gcd
from pathlib import Path
from typing import Any, Self

from rollback_budget.exceptions import TargetError
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.target import FlagdTarget
from rollback_budget.targets.base import (
    NOTHING,
    Serving,
    TargetConnections,
    TrafficTarget,
    Versions,
    require_unchanged,
    rewrite_current,
)

#: Weights are whole numbers; a millionth is the finest share.
_FINEST = 1_000_000


class FlagdFile(TrafficTarget):
    """The ``flagd`` target: the ``fractional`` targeting of one flag.

    A change replaces the file at once, under a lock on ``<file>.lock``, if its content is still what was
    read; flagd notices by itself. Other programs that edit the file do not know of the lock. Behind a
    symbolic link the real file is read and replaced; one that is a mount of its own cannot be replaced, and
    is overwritten.
    """

    settings = FlagdTarget

    def __init__(self, config: FlagdTarget, release: str, baseline: str) -> None:
        self._config = config
        self._versions = Versions(release, baseline, config.versions)
        self._named = Path(config.path)

    @property
    def _path(self) -> Path:
        """The real file: where the link leads may change."""
        return self._named.resolve()

    @classmethod
    def open(cls, spec: RolloutSpec, connections: TargetConnections) -> Self:  # noqa: ARG003
        """Return the target of ``spec``."""
        config = spec.target
        assert isinstance(config, FlagdTarget)
        return cls(config, spec.release, spec.baseline)

    def read(self) -> Serving:
        """Return who serves; the revision is the hash of the file's content."""
        serving, _ = self._look()
        return serving

    def apply(self, shares: Mapping[str, float], *, expected: Serving, idempotency_key: str) -> None:  # noqa: ARG002
        """Replace the file; the same content twice is the same state."""
        with self._lock():
            now, document = self._look()
            require_unchanged(expected, now)
            flag = document["flags"][self._config.flag]
            fractional = _fractional(flag.get("targeting")) or []
            by = [part for part in fractional[:1] if not _is_pair(part)]
            flag["targeting"] = {"fractional": [*by, *self._weights(shares)]}
            for version, share in shares.items():
                if share >= 1 - NOTHING:
                    # A request that cannot be assigned, for want of a key, gets the default.
                    flag["defaultVariant"] = self._versions.theirs(version)
            self._replace(json.dumps(document, indent=2, ensure_ascii=False) + "\n")

    def rehearse(self, serving: Serving) -> tuple[str, ...]:
        """Look whether both versions are variants, and whether the file can be replaced."""
        _, document = self._look()
        variants = document["flags"][self._config.flag].get("variants", {})
        for version in (self._versions.baseline, self._versions.release):
            if self._versions.theirs(version) not in variants:
                raise TargetError(
                    f"{self._what()} has no variant {self._versions.theirs(version)}; add it, or say in"
                    " `target.versions` what it is called"
                )
        for place in (self._path.parent, self._path):
            if not os.access(place, os.W_OK):
                raise TargetError(f"{place} may not be written, so a rollback would fail; change its rights")
        findings = [f"{self._what()} has a variant for each version, and may be written"]
        if _is_mount(self._path):
            findings.append(
                f"{self._path} is mounted by itself, so that it is overwritten and not replaced at once:"
                " mount its folder instead"
            )
        if self._config.dry_run == "write_current":
            findings.append(rewrite_current(self, serving, self._versions))
        return tuple(findings)

    def _look(self) -> tuple[Serving, dict[str, Any]]:
        try:
            content = self._path.read_bytes()
            document = json.loads(content)
        except (OSError, ValueError) as error:
            raise TargetError(f"{self._path} cannot be read as JSON: {error}") from error
        flags = document.get("flags") if isinstance(document, dict) else None
        flag = flags.get(self._config.flag) if isinstance(flags, dict) else None
        if not isinstance(flag, dict):
            raise TargetError(f"{self._what()} is not there; correct `target.flag`, or add it to the file")
        if flag.get("state") != "ENABLED":
            raise TargetError(f"{self._what()} is {flag.get('state')}, so it decides nothing; enable it")
        shares = {self._versions.ours(name): share for name, share in self._shares(flag).items()}
        return Serving(shares, hashlib.sha256(content).hexdigest()), document

    def _shares(self, flag: Mapping[str, Any]) -> dict[str, float]:
        targeting = flag.get("targeting")
        if not targeting:
            return {str(flag.get("defaultVariant")): 1.0}
        fractional = _fractional(targeting)
        pairs = [] if fractional is None else fractional[1:] if not _is_pair(fractional[0]) else fractional
        # A pair without a weight weighs 1.
        weights = [(str(pair[0]), pair[1] if len(pair) > 1 else 1) for pair in pairs if _is_pair(pair)]
        usable = all(isinstance(w, int | float) and not isinstance(w, bool) and w >= 0 for _, w in weights)
        total = sum(weight for _, weight in weights) if usable else 0
        if not usable or total <= 0 or len(weights) != len(pairs):
            raise TargetError(
                f"{self._what()} has a targeting other than one `fractional` of variants and weights;"
                " keep other rules in another flag"
            )
        shares: dict[str, float] = {}
        for name, weight in weights:
            shares[name] = shares.get(name, 0.0) + weight / total
        return shares

    def _weights(self, shares: Mapping[str, float]) -> list[list[Any]]:
        parts = {version: round(share * _FINEST) for version, share in shares.items()}
        common = gcd(*parts.values()) or 1
        whole = max(sum(parts.values()) // common, 1)
        factor = 100 // whole if 100 % whole == 0 else 1
        return [
            [self._versions.theirs(version), part // common * factor]
            for version, part in sorted(parts.items())
        ]

    @contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            with open(f"{self._path}.lock", "a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise TargetError(f"{self._path} cannot be locked: {error}") from error

    def _replace(self, content: str) -> None:
        try:
            mode = self._path.stat().st_mode & 0o777
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.chmod(name, mode)
                os.replace(name, self._path)
            except OSError as error:
                os.unlink(name)
                if error.errno != errno.EBUSY:
                    raise
                self._overwrite(content)
        except OSError as error:
            raise TargetError(f"{self._path} cannot be replaced: {error}") from error

    def _overwrite(self, content: str) -> None:
        with open(self._path, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def _what(self) -> str:
        return f"the flag {self._config.flag} in {self._named}"


def _is_mount(path: Path) -> bool:
    """Whether a file is a mount of its own, as of a container's single file; False where nothing says it."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return False
    written = (
        str(path).replace("\\", r"\134").replace(" ", r"\040").replace("\t", r"\011").replace("\n", r"\012")
    )
    return any(line.split(" ")[4:5] == [written] for line in mounts)


def _fractional(targeting: Any) -> list[Any] | None:
    found = targeting.get("fractional") if isinstance(targeting, dict) and len(targeting) == 1 else None
    return found if isinstance(found, list) and found else None


def _is_pair(part: Any) -> bool:
    return isinstance(part, list) and 1 <= len(part) <= 2 and isinstance(part[0], str)
