"""A PostgreSQL of the tests' own, from the system's binaries."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.network import find_free_port

SYSTEM_USER = "postgres"


@dataclass(frozen=True)
class Postgres:
    """A running cluster; ``database()`` makes an empty database and returns its URL."""

    binaries: Path
    port: int
    control: Callable[..., None]

    def database(self) -> str:
        name = f"t{uuid.uuid4().hex}"
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-U", SYSTEM_USER]
        subprocess.run([self.binaries / "createdb", *address, name], check=True, capture_output=True)
        return f"postgresql://{SYSTEM_USER}@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        """End it as a power failure would: no client is notified, and the next start recovers."""
        self.control("-m", "immediate", "stop")

    def start(self) -> None:
        """Start it again on the same port; returns when it accepts connections."""
        self.control("start")


def find_binaries() -> Path | None:
    """Return the folder with the newest PostgreSQL server, None when there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: int(file.parts[-3]))
    return found[-1].parent if found else None


@contextmanager
def running_postgres(binaries: Path) -> Iterator[Postgres]:
    """Run a cluster in a temporary folder; as ``postgres`` when root, which the server refuses to be."""
    user = SYSTEM_USER if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="rollback-budget-pg-") as folder:
        data = Path(folder) / "data"
        if user is not None:
            account = pwd.getpwnam(user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        port = find_free_port()

        def run(program: str, *arguments: str | Path) -> None:
            subprocess.run(
                [binaries / program, *arguments],
                check=True,
                capture_output=True,
                user=user,
                cwd=folder,
                env={},
            )

        run(
            "initdb",
            "-D",
            data,
            "-U",
            SYSTEM_USER,
            "--auth=trust",
            "--encoding=UTF8",
            "--no-sync",
            "--locale=C",
        )
        options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"

        def control(*arguments: str) -> None:
            run("pg_ctl", "-D", data, "-w", "-t", "60", "-l", Path(folder) / "log", "-o", options, *arguments)

        control("start")
        try:
            yield Postgres(binaries, port, control)
        finally:
            control("-m", "immediate", "stop")
