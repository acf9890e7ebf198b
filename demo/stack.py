"""A real Airflow with all its components, as separate processes on free ports, in a home of its own.

Used by the demo, the tests and the benches::

    with AirflowStack(home, dags_folder=Path("dags")) as stack:
        run_id = stack.api.trigger("my_dag")
        stack.kill("triggerer")
        stack.start("triggerer")
        assert stack.wait_for_run("my_dag", run_id) == "success"

Nothing of the caller's Airflow is touched: no ``AIRFLOW__*`` variable is inherited, and several stacks can
run side by side.
"""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import make_url

from demo.airflow_api import AirflowApi
from demo.environment import airflow_environment
from demo.process import ManagedProcess, ReservedPort
from demo.waiting import DemoError, wait_for

#: Where ``airflow`` and ``rollback-budget`` are, unless a stack gets another folder.
BIN = Path(sys.executable).parent
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
COMMANDER = "casey"
USERS = {COMMANDER: "admin", "robin": "op"}
START_TIMEOUT_S = 120.0
#: The scheduler would wait for running tasks; a stack that is thrown away does not.
STOP_TIMEOUT_S = 6.0
COMMAND_TIMEOUT_S = 120.0
DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
#: SQLite has one writer. Airflow's API server can hold it for the 5 s that SQLite waits by default, because
#: its event loop then waits for a session that only the event loop can close; so its own wait stays at 5 s,
#: which ends that, and everyone else waits longer: the scheduler ends itself at a write that it cannot make.
SQLITE_WAIT_S = 60
FINAL_STATES = ("success", "failed")


class AirflowStack:
    """Airflow under test. A context manager: entering starts it, leaving ends every process it started.

    :param home: AIRFLOW_HOME; logs go to ``home/logs/<component>.log``, task logs to ``home/logs/tasks``.
    :param database_url: Airflow's metadata database; by default SQLite in ``home``.
    :param environment: further variables for every process (``AIRFLOW__SECTION__OPTION``,
        ``AIRFLOW_CONN_*``); they win over the stack's own.
    :param users: user name -> role of the simple auth manager; passwords are made up, see :attr:`passwords`.
    :param programs: the folder of ``airflow`` and ``rollback-budget``, by default this virtual environment's.
    """

    def __init__(
        self,
        home: Path,
        dags_folder: Path,
        *,
        plugins_folder: Path | None = None,
        database_url: str | None = None,
        environment: Mapping[str, str] | None = None,
        users: Mapping[str, str] = USERS,
        programs: Path = BIN,
    ) -> None:
        self.home = home
        self._programs = programs
        self.logs = home / "logs"
        self.passwords = {user: secrets.token_hex(9) for user in users}
        self._ports = {name: ReservedPort() for name in ("api-server", "scheduler", "triggerer")}
        self.url = f"http://127.0.0.1:{self._ports['api-server'].number}"
        self.api = AirflowApi(self.url, self.passwords)
        self._environment = airflow_environment(
            home=home,
            dags_folder=dags_folder,
            plugins_folder=plugins_folder or home / "plugins",
            database_url=database_url or f"sqlite:///{home / 'airflow.db'}",
            users=users,
            api_port=self._ports["api-server"].number,
            worker_log_port=self._ports["scheduler"].number,
            trigger_log_port=self._ports["triggerer"].number,
        ) | dict(environment or {})
        self._components: dict[str, ManagedProcess] = {}

    def __enter__(self) -> Self:
        try:
            self.start_all()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def add_connection(self, conn_id: str, uri: str) -> None:
        """Make a connection known to every component; before the stack starts.

        :raises DemoError: when it runs already, since a running process cannot see a new variable.
        """
        if self._components:
            raise DemoError(f"connection {conn_id} must be added before the stack starts")
        self._environment[f"AIRFLOW_CONN_{conn_id.upper()}"] = uri

    def start_all(self) -> None:
        """Migrate the database, start every component, and wait until all are healthy.

        :raises DemoError: when one ends, or is not healthy in time; says which log to read.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        (self.home / "plugins").mkdir(exist_ok=True)
        passwords = self.home / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps(self.passwords))
        self.run("airflow", "db", "migrate")
        for name in COMPONENTS:
            port = self._ports.get(name)
            self._components[name] = self._component(name, name, () if port is None else (port,))
            self._components[name].start()
        self.wait_until_healthy()

    def start_another_triggerer(self, name: str) -> None:
        """Start a triggerer beside the first, under a name of its own."""
        port = self._ports[name] = ReservedPort()
        log_port = {"AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(port.number)}
        self._components[name] = self._component(name, "triggerer", (port,), log_port)
        self._components[name].start()

    def _component(
        self,
        name: str,
        command: str,
        ports: Sequence[ReservedPort],
        environment: Mapping[str, str] | None = None,
    ) -> ManagedProcess:
        return ManagedProcess(
            name,
            [str(self._programs / "airflow"), command],
            environment={**self._environment, **self._sqlite_wait(command), **(environment or {})},
            folder=self.home,
            log=self.logs / f"{name}.log",
            ports=ports,
        )

    def _sqlite_wait(self, command: str) -> dict[str, str]:
        """Return the database's address with how long this component waits for it, where that is SQLite."""
        url = make_url(self._environment[DATABASE])
        if command == "api-server" or url.get_backend_name() != "sqlite":
            return {}
        url = url.update_query_dict({"timeout": str(SQLITE_WAIT_S)})
        return {DATABASE: url.render_as_string(hide_password=False)}

    def stop(self) -> None:
        """End every process that this stack started; again is harmless."""
        for component in self._components.values():
            component.terminate()
        for component in self._components.values():
            component.join(STOP_TIMEOUT_S)
        for port in self._ports.values():
            port.release()
        self.api.close()

    @property
    def ports(self) -> tuple[ReservedPort, ...]:
        """Every port that this stack listens on."""
        return tuple(self._ports.values())

    def start(self, component: str) -> None:
        """Start one component that was killed or stopped."""
        self._components[component].start()

    def kill(self, component: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one component; SIGKILL, SIGSTOP and SIGCONT reach its children too."""
        self._components[component].kill(number)

    def restart(self, component: str) -> None:
        """Stop one component in its own good manner, and start it again."""
        self._components[component].terminate()
        self._components[component].join()
        self._components[component].start()

    def revive(self) -> list[str]:
        """Start what has ended, as the supervisor of a real deployment does; return the names."""
        ended = [name for name, component in self._components.items() if component.pid is None]
        for name in ended:
            self._components[name].start()
        return ended

    def pid(self, component: str) -> int | None:
        """Return the process id of a component, None when it does not run."""
        return self._components[component].pid

    def run(self, program: str, *arguments: str) -> str:
        """Run a command of the virtual environment (``airflow``, ``rollback-budget``) as the stack's own.

        :raises DemoError: with what it printed, when it fails.
        """
        try:
            done = subprocess.run(
                [str(self._programs / program), *arguments],
                env=self._environment,
                cwd=self.home,
                capture_output=True,
                text=True,
                timeout=COMMAND_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DemoError(
                f"{program} {' '.join(arguments)} took more than {COMMAND_TIMEOUT_S:g} s"
            ) from error
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip()[-3000:]
            raise DemoError(f"{program} {' '.join(arguments)} ended with code {done.returncode}:\n{said}")
        return done.stdout

    def check(self) -> None:
        """Raise :class:`DemoError` when a component is gone that was not stopped."""
        for component in self._components.values():
            component.check()

    def wait_until_healthy(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until the API says that the database and every component are well."""

        def healthy() -> bool:
            self.check()
            return self.api.is_healthy()

        wait_for(healthy, f"a healthy Airflow (logs in {self.logs})", timeout_s=timeout_s)

    def wait_for_dags(self, dag_ids: Iterable[str], timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until these DAGs are parsed.

        :raises DemoError: naming the import errors, when one is not there in time.
        """
        wanted = set(dag_ids)
        try:
            wait_for(lambda: wanted <= self.api.dag_ids(), f"the DAGs {sorted(wanted)}", timeout_s=timeout_s)
        except DemoError as error:
            raise DemoError(f"{error}; import errors: {self.api.import_errors() or 'none'}") from error

    def wait_for_run(
        self, dag_id: str, run_id: str, states: Iterable[str] = FINAL_STATES, timeout_s: float = 300.0
    ) -> str:
        """Wait until a run is in one of ``states`` and return that state."""
        wanted = set(states)

        def state() -> str | None:
            self.check()
            found = self.api.run_state(dag_id, run_id)
            return found if found in wanted else None

        return (
            wait_for(
                state, f"run {run_id} of {dag_id} to be {' or '.join(sorted(wanted))}", timeout_s=timeout_s
            )
            or ""
        )

    def wait_for_task(
        self, dag_id: str, run_id: str, task_id: str, states: Iterable[str], timeout_s: float = 120.0
    ) -> str:
        """Wait until a task is in one of ``states`` and return that state."""
        wanted = set(states)

        def state() -> str | None:
            self.check()
            found = self.api.task_states(dag_id, run_id).get(task_id)
            return found if found in wanted else None

        what = f"task {task_id} of {dag_id} to be {' or '.join(sorted(wanted))}"
        return wait_for(state, what, timeout_s=timeout_s) or ""
