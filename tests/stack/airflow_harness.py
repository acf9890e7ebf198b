"""A harness to try rollouts in: one real Airflow, and a simulated service of its own for each rollout."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from demo.service import SimulatedService
from demo.stack import BIN, COMMANDER, USERS, AirflowStack
from demo.traffic import Behaviour
from demo.waiting import wait_for
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import FinalDecision, Rollout

REPOSITORY = Path(__file__).resolve().parents[2]
RELEASE, BASELINE = "model-v42", "model-v41"
GOOD = Behaviour(incident=0.0)

#: How long a test waits for what has to happen: a machine with other work takes its time, seconds.
PATIENCE_S = 300.0
#: Settle and blindness leave room for a machine on which everything runs at once.
WATCH = {"poll": "1s", "step": "1s", "settle": "3s", "max_gap": "10s", "blind_after": "45s"}


@dataclass(frozen=True)
class Scenario:
    """One rollout to try.

    :param window: seconds.
    :param budgets: the ``rollback_budget`` part of the file.
    :param release: how the release behaves from the start.
    :param further: further top-level keys of the budget file.
    :param deadline: how long a rollback may take until it is proven.
    """

    name: str
    window: int
    budgets: Mapping[str, Any]
    release: Behaviour = GOOD
    further: Mapping[str, Any] = field(default_factory=dict)
    deadline: str = "30s"

    @property
    def dag_id(self) -> str:
        return f"rollout_{self.name}"

    def document(self) -> dict[str, Any]:
        """Return the budget file; JSON is YAML."""
        return {
            "release": RELEASE,
            "baseline": BASELINE,
            "service": self.name,
            "owner": "tests",
            "incident_commander": {"id": COMMANDER, "name": COMMANDER},
            "window": f"{self.window}s",
            "rollback_budget": dict(self.budgets),
            "watch": WATCH,
            "source": {"type": "sql", "conn_id": f"log_{self.name}"},
            "target": {"conn_id": f"router_{self.name}", "deadline": self.deadline, "request_timeout": "2s"},
            **self.further,
        }


class Harness:
    """The services, the budget files and Airflow, started together.

    :param folder: everything is kept below it.
    :param database_url: of Airflow; by default SQLite, and so is the ledger's.
    :param environment: further variables for every process of Airflow.
    :param programs: the folder of ``airflow``, by default this virtual environment's.
    :param rate: requests per second of each service.
    """

    def __init__(
        self,
        folder: Path,
        scenarios: list[Scenario],
        *,
        database_url: str | None = None,
        ledger_url: str | None = None,
        environment: Mapping[str, str] | None = None,
        users: Mapping[str, str] = USERS,
        programs: Path = BIN,
        rate: float = 30,
    ) -> None:
        self.folder = folder
        self._rate = rate
        self.budgets = folder / "budgets"
        self.backlog = folder / "eval-debt"
        self.dags = folder / "dags"
        self.ledger_file = folder / "ledger.db"
        ledger_url = ledger_url or f"sqlite:///{self.ledger_file}"
        self.ledger = Ledger(ledger_url)
        self.scenarios = {scenario.name: scenario for scenario in scenarios}
        self.services: dict[str, SimulatedService] = {}
        self.runs: dict[str, str] = {}
        self.stack = AirflowStack(
            folder / "airflow",
            self.dags,
            database_url=database_url,
            users=users,
            programs=programs,
            environment={
                "AIRFLOW__ROLLBACK_BUDGET__SQL_ALCHEMY_CONN": ledger_url,
                "AIRFLOW__ROLLBACK_BUDGET__BUDGETS_FOLDER": str(self.budgets),
                "AIRFLOW__ROLLBACK_BUDGET__BACKLOG_FOLDER": str(self.backlog),
                **(environment or {}),
            },
        )

    def start(self) -> None:
        self.ledger.migrate()
        self.budgets.mkdir()
        shutil.copytree(REPOSITORY / "dags", self.dags, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(Path(__file__).with_name("team_dags.py"), self.dags)
        defaults = (REPOSITORY / "budgets" / "defaults.yaml").read_text()
        # A view between the metrics and the log, so that a test can remove the metrics and give them back.
        (self.budgets / "defaults.yaml").write_text(defaults.replace("FROM requests", "FROM seen"))
        (self.budgets / "broken.yaml").write_text("release: a\nbaseline: a\nwindow: soon\n")
        for scenario in self.scenarios.values():
            database = self.folder / f"{scenario.name}.db"
            service = SimulatedService(
                {BASELINE: GOOD, RELEASE: scenario.release}, database=database, rate=self._rate
            )
            service.start()
            self.services[scenario.name] = service
            self.give_metrics(scenario.name)
            self.stack.add_connection(f"log_{scenario.name}", f"sqlite:///{database}")
            self.stack.add_connection(f"router_{scenario.name}", service.url)
            path = self.budgets / f"{scenario.name}.yaml"
            path.write_text(json.dumps(scenario.document(), indent=1))
        self.stack.start_all()
        self.stack.wait_for_dags(
            ["eval_debt", "rollout_broken", *(scenario.dag_id for scenario in self.scenarios.values())]
        )

    def stop(self) -> None:
        self.stack.stop()
        for service in self.services.values():
            service.stop()

    def trigger(self, name: str) -> RolloutKey:
        dag_id = self.scenarios[name].dag_id
        self.runs[name] = self.stack.api.trigger(dag_id)
        return self.key(name)

    def key(self, name: str) -> RolloutKey:
        return RolloutKey(self.scenarios[name].dag_id, self.runs[name])

    def rollout(self, name: str) -> Rollout:
        found = self.ledger.rollouts.get(self.key(name))
        assert found is not None
        return found

    def final(self, name: str) -> FinalDecision | None:
        final = self.rollout(name).final
        return None if final is None else final.decision

    def end(self, name: str, timeout_s: float = PATIENCE_S) -> str:
        """Wait until the run has ended and return its state."""
        return self.stack.wait_for_run(self.scenarios[name].dag_id, self.runs[name], timeout_s=timeout_s)

    def reach(self, name: str, task_id: str, *states: str, timeout_s: float = PATIENCE_S) -> str:
        """Wait until a task is in one of the states."""
        dag_id = self.scenarios[name].dag_id
        return self.stack.wait_for_task(dag_id, self.runs[name], task_id, states, timeout_s=timeout_s)

    def states(self, name: str) -> dict[str, str | None]:
        return self.stack.api.task_states(self.scenarios[name].dag_id, self.runs[name])

    def answer(
        self,
        name: str,
        option: str,
        reason: str | None,
        *,
        round_: int = 1,
        user: str = COMMANDER,
        **fields: Any,
    ) -> httpx.Response:
        """Answer a review as ``user`` does in the UI, through Airflow's own API.

        :param fields: further fields of the form.
        """
        dag_id, run = self.scenarios[name].dag_id, self.runs[name]
        path = f"/dags/{dag_id}/dagRuns/{run}/taskInstances/round_{round_}.review/-1/hitlDetails"
        body = {"chosen_options": [option], "params_input": {"reason": reason, **fields}}
        return self.stack.api.send("PATCH", path, body, user=user)

    def weights(self, name: str) -> dict[str, float]:
        weights: dict[str, float] = self.service_get(name, "/control/traffic")["weights"]
        return {version: weight for version, weight in weights.items() if weight > 0}

    def changes(self, name: str) -> list[dict[str, Any]]:
        """Return every change of traffic that the service accepted."""
        found = self.service_get(name, "/control/changes")
        return list(found["changes"] if isinstance(found, dict) else found)

    def service_get(self, name: str, path: str) -> Any:
        return httpx.get(self.services[name].url + path, trust_env=False, timeout=5).json()

    def break_control(self, name: str, fault: str) -> None:
        url = self.services[name].url + "/simulate/faults"
        httpx.post(url, json={"control": fault}, trust_env=False, timeout=5).raise_for_status()

    def worsen(self, name: str, *, version: str = RELEASE, **behaviour: float) -> datetime:
        """Change how a version answers from now on; return when that was."""
        url = f"{self.services[name].url}/simulate/{version}"
        httpx.post(url, json=behaviour, trust_env=False, timeout=5).raise_for_status()
        return datetime.now(UTC)

    def set_weights(self, name: str, weights: Mapping[str, float]) -> None:
        """Change the traffic as a person does who knows nothing of this rollout."""
        url = f"{self.services[name].url}/control/traffic"
        httpx.put(url, json={"weights": weights}, trust_env=False, timeout=5).raise_for_status()

    def wait_for_log(self, name: str, task_id: str, text: str) -> None:
        """Wait until a task's log (its trigger's too) says ``text``."""
        folder = self.stack.logs / "tasks" / f"dag_id={self.scenarios[name].dag_id}"

        def said() -> bool:
            files = [
                path for path in folder.rglob("*") if path.is_file() and f"task_id={task_id}" in str(path)
            ]
            return any(text in path.read_text(errors="replace") for path in files)

        wait_for(said, f"{text!r} in the log of {task_id}", timeout_s=PATIENCE_S)

    def edit_budget(self, name: str, **changes: Any) -> None:
        """Change a budget file while its rollout runs."""
        document = {**self.scenarios[name].document(), **changes}
        (self.budgets / f"{name}.yaml").write_text(json.dumps(document, indent=1))

    def take_ledger(self) -> None:
        """Put the ledger where no process finds it, with all that SQLite keeps beside it."""
        self._move_ledger(self.folder, self.folder / "aside")

    def give_ledger(self) -> None:
        for made_meanwhile in self.folder.glob(f"{self.ledger_file.name}*"):
            made_meanwhile.unlink()
        self._move_ledger(self.folder / "aside", self.folder)

    def _move_ledger(self, place: Path, to: Path) -> None:
        to.mkdir(exist_ok=True)
        for file in place.glob(f"{self.ledger_file.name}*"):
            shutil.move(file, to / file.name)

    def take_metrics(self, name: str) -> None:
        """Make the metric source reject every query."""
        self._execute(name, "DROP VIEW seen")

    def give_metrics(self, name: str) -> None:
        self._execute(name, "CREATE VIEW seen AS SELECT * FROM requests")

    def _execute(self, name: str, statement: str) -> None:
        with closing(sqlite3.connect(self.folder / f"{name}.db", timeout=30)) as connection:
            connection.execute(statement)
            connection.commit()

    def wait_for_debts(self, count: int) -> None:
        wait_for(
            lambda: len(list(self.backlog.glob("*.md"))) >= count, f"{count} debts", timeout_s=PATIENCE_S
        )
