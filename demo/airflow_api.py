"""Airflow's public REST API, as the few questions that the demo and the tests ask."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import httpx

from demo.waiting import DemoError

TIMEOUT_S = 30.0
RETRY_PAUSES_S = (0.5, 1.0, 2.0)


class AirflowApi:
    """A client that speaks as any of the stack's users; the first one is the default.

    :param passwords: user name -> password.
    """

    def __init__(self, url: str, passwords: Mapping[str, str]) -> None:
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False)
        self._passwords = passwords
        self._default = next(iter(passwords))
        self._tokens: dict[str, str] = {}
        self._writing = threading.Lock()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def token(self, user: str | None = None) -> str:
        """Return a token for ``user``; one log-in per user."""
        name = user or self._default
        if name not in self._tokens:
            credentials = {"username": name, "password": self._passwords[name]}
            answer = self._http.post("/auth/token", json=credentials)
            self._tokens[name] = str(_checked(answer)["access_token"])
        return self._tokens[name]

    def send(self, method: str, path: str, json: object = None, *, user: str | None = None) -> httpx.Response:
        """Send one request below ``/api/v2`` and return the answer, whatever its status.

        Writes go one at a time and are repeated after a database error, which Airflow has rolled back: on
        SQLite its API server commits audit records on the event loop, and can so wait for itself.

        :raises DemoError: when the API server does not answer.
        """
        headers = {"Authorization": f"Bearer {self.token(user)}"}
        with self._writing if method != "GET" else nullcontext():
            for pause_s in (*RETRY_PAUSES_S, None):
                try:
                    answer = self._http.request(method, f"/api/v2{path}", json=json, headers=headers)
                except httpx.TransportError as error:
                    raise DemoError(f"{method} {path}: the API server does not answer ({error!r})") from error
                if pause_s is None or not _is_database_error(answer):
                    break
                time.sleep(pause_s)
        return answer

    def call(self, method: str, path: str, json: object = None, *, user: str | None = None) -> Any:
        """Do as :meth:`send` and return the JSON.

        :raises DemoError: when the status is not 2xx, with the answer.
        """
        return _checked(self.send(method, path, json, user=user))

    def is_healthy(self) -> bool:
        """Say whether the database and all four components report that they are well."""
        try:
            answer = self._http.get("/api/v2/monitor/health")
        except httpx.TransportError:
            return False
        parts = ("metadatabase", "scheduler", "dag_processor", "triggerer")
        return answer.is_success and all(answer.json()[part]["status"] == "healthy" for part in parts)

    def dag_ids(self) -> set[str]:
        """Return the ids of the parsed DAGs."""
        return {dag["dag_id"] for dag in self.call("GET", "/dags?limit=1000")["dags"]}

    def import_errors(self) -> list[str]:
        """Return one text per DAG file that cannot be loaded."""
        errors = self.call("GET", "/importErrors")["import_errors"]
        return [f"{error['filename']}: {error['stack_trace']}" for error in errors]

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None, *, user: str | None = None) -> str:
        """Start a run and return its id."""
        body = {"logical_date": None, "conf": dict(conf or {})}
        return str(self.call("POST", f"/dags/{dag_id}/dagRuns", body, user=user)["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run."""
        return str(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """Return the state of every task of a run."""
        tasks = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit=1000")[
            "task_instances"
        ]
        return {task["task_id"]: task["state"] for task in tasks}

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """Return what a task left for others, or None when there is nothing."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        answer = self.send("GET", f"{path}?deserialize=false")
        return None if answer.status_code == httpx.codes.NOT_FOUND else _checked(answer)["value"]

    def review(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Return what a review asks a human, or None while it does not ask yet."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"
        answer = self.send("GET", path)
        return None if answer.status_code == httpx.codes.NOT_FOUND else _checked(answer)

    def answer_review(
        self, dag_id: str, run_id: str, task_id: str, *, option: str, reason: str, user: str
    ) -> None:
        """Answer a review as ``user``."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"
        self.call("PATCH", path, {"chosen_options": [option], "params_input": {"reason": reason}}, user=user)


def _is_database_error(answer: httpx.Response) -> bool:
    return answer.status_code == httpx.codes.INTERNAL_SERVER_ERROR and "Database error" in answer.text


def _checked(answer: httpx.Response) -> Any:
    if not answer.is_success:
        request = answer.request
        raise DemoError(
            f"{request.method} {request.url.path} answered {answer.status_code}: {answer.text[:500]}"
        )
    return answer.json() if answer.content else None
