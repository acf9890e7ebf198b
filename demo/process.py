"""One process that the demo started: its log, its signals, its end."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from demo.waiting import DemoError

END_TIMEOUT_S = 15.0


class ReservedPort:
    """A free port of 127.0.0.1, kept from others until :meth:`release` hands it to its user."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.number: int = self._socket.getsockname()[1]

    def release(self) -> None:
        """Free the port for the process that is about to listen on it; again is harmless."""
        self._socket.close()


class ManagedProcess:
    """A command that can be started, killed and started again, with its output appended to one log.

    :param name: how messages call it.
    :param ports: ports that it listens on, released when it starts.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
        ports: Iterable[ReservedPort] = (),
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._environment = dict(environment)
        self._folder = folder
        self._ports = tuple(ports)
        self._process: subprocess.Popen[bytes] | None = None
        self._stop_requested = False
        self._leftovers: list[psutil.Process] = []

    @property
    def pid(self) -> int | None:
        """Process id while it runs, else None."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start it in a session of its own, so that a Ctrl-C in the terminal reaches only the demo."""
        if self.pid is not None:
            raise DemoError(f"{self.name} is running already (pid {self.pid})")
        for port in self._ports:
            port.release()
        self._stop_requested = False
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise :class:`DemoError` with the end of its log when it ended although no caller stopped it."""
        if self._process is not None and self.pid is None and not self._stop_requested:
            code = self._process.returncode
            raise DemoError(f"{self.name} ended with code {code}; the end of {self.log}:\n{self.tail()}")

    def tail(self, lines: int = 15) -> str:
        """Return the last ``lines`` lines of the log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return "(no log)"

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal. What cannot be handled (SIGKILL, SIGSTOP, SIGCONT) goes to its children too.

        :raises DemoError: when it does not run.
        """
        if self._process is None or self.pid is None:
            raise DemoError(f"{self.name} is not running")
        self._stop_requested = self._stop_requested or number not in (signal.SIGSTOP, signal.SIGCONT)
        if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT):
            self._process.send_signal(number)
            return
        _signal_all(self._family(), number)
        if number is signal.SIGKILL:
            self._process.wait(END_TIMEOUT_S)

    def terminate(self) -> None:
        """Ask it to end, without waiting."""
        if self.pid is not None:
            self._leftovers = self._family()
            self.kill(signal.SIGTERM)

    def join(self, timeout_s: float = END_TIMEOUT_S) -> None:
        """Wait for an asked-for end; what is left after ``timeout_s`` is killed, children included."""
        if self._process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        _signal_all([*self._leftovers, *self._family()], signal.SIGKILL)
        self._process.wait(END_TIMEOUT_S)
        self._process = None

    def _family(self) -> list[psutil.Process]:
        """It and its children, those that started a session of their own included."""
        if self.pid is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            return [*process.children(recursive=True), process]
        return []


def _signal_all(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Signal processes that are still the ones they were; a reused pid is not signalled."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
