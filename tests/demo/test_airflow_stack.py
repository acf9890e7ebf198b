from __future__ import annotations

import socket
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from demo.environment import airflow_environment
from demo.stack import COMPONENTS, AirflowStack
from demo.waiting import DemoError, wait_for

WAITS = """
from airflow.providers.standard.triggers.file import FileTrigger
from airflow.sdk import DAG, BaseOperator


class WaitForFile(BaseOperator):
    def execute(self, context):
        self.defer(trigger=FileTrigger({file!r}, poke_interval=0.2), method_name="found")

    def found(self, context, event):
        return event


with DAG("waits", schedule=None):
    WaitForFile(task_id="wait", retries=2, retry_delay=1)
"""
STEPS = """
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, chain

with DAG("steps", schedule=None, is_paused_upon_creation=True, default_args={"retries": 3, "retry_delay": 1}):
    chain(*(PythonOperator(task_id=f"step_{number}", python_callable=print) for number in range(2)))
"""
LONGER_THAN_SQLITE_WAITS_S = 8.0
TAKES_OVER_SOON = {
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "4",
}


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.stack
def test_a_deferred_task_goes_on_after_kill_9_of_the_triggerer_and_nothing_is_left_behind(
    tmp_path: Path,
) -> None:
    dags = tmp_path / "dags"
    dags.mkdir()
    file = tmp_path / "the thing"
    (dags / "waits.py").write_text(WAITS.format(file=str(file)))
    with AirflowStack(tmp_path, dags, environment=TAKES_OVER_SOON) as stack:
        stack.wait_for_dags(["waits"])
        run_id = stack.api.trigger("waits", user="robin")
        stack.wait_for_task("waits", run_id, "wait", ["deferred"])
        killed = stack.pid("triggerer")
        assert killed is not None
        stack.kill("triggerer")
        assert (stack.pid("triggerer"), is_alive(killed)) == (None, False)
        file.touch()
        stack.start("triggerer")
        assert stack.wait_for_run("waits", run_id, timeout_s=60) == "success"
        pids = [pid for name in COMPONENTS if (pid := stack.pid(name)) is not None]
        ports = [port.number for port in stack.ports]
        assert len(pids) == len(COMPONENTS)
        assert all(is_listening(port) for port in ports)
    assert not any(is_alive(pid) for pid in pids)
    # Children of what was killed are gone a moment later.
    wait_for(lambda: not any(is_listening(port) for port in ports), "the ports to be free", timeout_s=30)


@pytest.mark.stack
def test_no_component_ends_while_another_process_holds_sqlite_for_longer_than_it_waits_by_default(
    tmp_path: Path,
) -> None:
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "steps.py").write_text(STEPS)
    with AirflowStack(tmp_path, dags) as stack:
        stack.wait_for_dags(["steps"])
        run_id = stack.api.trigger("steps")
        with closing(sqlite3.connect(tmp_path / "airflow.db", timeout=60, isolation_level=None)) as writer:
            # The scheduler shall see a run that it must start, and find that it cannot write.
            writer.execute("UPDATE dag SET is_paused = 0")
            writer.execute("BEGIN IMMEDIATE")
            threading.Event().wait(LONGER_THAN_SQLITE_WAITS_S)
            writer.execute("ROLLBACK")
        assert stack.wait_for_run("steps", run_id, timeout_s=120) == "success"


@pytest.mark.service
def test_a_stack_that_cannot_start_says_why_and_leaves_nothing_running(tmp_path: Path) -> None:
    nowhere = f"sqlite:///{tmp_path}/missing/airflow.db"
    stack = AirflowStack(tmp_path, tmp_path, database_url=nowhere)
    with (
        pytest.raises(DemoError, match=r"airflow db migrate ended with code 1(.|\n)*unable to open database"),
        stack,
    ):
        pass
    assert not any(is_listening(port.number) for port in stack.ports)


@pytest.mark.service
def test_two_stacks_share_no_port_and_no_secret_and_inherit_no_airflow_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "SomeoneElses")
    monkeypatch.setenv("AIRFLOW_CONN_SECRET", "http://someone:else@example.invalid")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.invalid")

    def environment(port: int) -> dict[str, str]:
        return airflow_environment(
            home=tmp_path,
            dags_folder=tmp_path,
            plugins_folder=tmp_path,
            database_url="sqlite://",
            users={"casey": "admin"},
            api_port=port,
            worker_log_port=port + 1,
            trigger_log_port=port + 2,
        )

    one, other = environment(1000), environment(2000)
    assert one["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert not {"AIRFLOW_CONN_SECRET", "HTTPS_PROXY"} & one.keys()
    differing = {name for name in one if one[name] != other[name]}
    assert {"AIRFLOW__API__PORT", "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT"} <= differing
    assert {"AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET"} <= differing


@pytest.mark.service
def test_waiting_in_vain_says_for_what() -> None:
    with pytest.raises(DemoError, match=r"waited 0\.1 s in vain for rain"):
        wait_for(lambda: None, "rain", timeout_s=0.1, every_s=0.01)
