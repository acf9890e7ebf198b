"""What Airflow's databases, running rollouts and people's scripts hold: none of it moves in a release.

A trigger waits in Airflow's database for a day, under its path and with its arguments; a task that it resumes
is entered by the name of a method; the next version's tasks read what a run's earlier tasks left in XCom.
Lists may grow; nothing is taken away from them. ``persisted/`` holds values that older versions wrote.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from pathlib import Path
from typing import Any

import click
import pytest
from airflow.triggers.base import BaseTrigger

from rollback_budget import BREACH
from rollback_budget.cli.main import cli
from rollback_budget.common import config, xcom
from rollback_budget.common.xcom import (
    ReviewAnswer,
    RollbackContext,
    RollbackReport,
    RolloutXcom,
    Shipment,
    Tasks,
)
from rollback_budget.dags.task_group import build_rollout
from rollback_budget.engine.evaluation import Evaluation
from rollback_budget.get_provider_info import get_provider_info
from rollback_budget.model.target import HttpTarget
from rollback_budget.watch.watch_plan import WatchPlan

pytestmark = pytest.mark.airflow

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

AT = "2026-03-01T12:00:00+00:00"
TI = "01950000-0000-7000-8000-000000000000"


def persisted(name: str) -> Any:
    return json.loads((HERE / "persisted" / name).read_text())


#: The path that a database holds; where the class lives now; the arguments that stand beside the path.
TRIGGERS: list[tuple[str, str, dict[str, Any]]] = [
    (
        "rollback_budget.workflow.trigger.RollbackBudgetTrigger",
        "rollback_budget.triggers.rollback_budget.RollbackBudgetTrigger",
        {"plan": "{}", "deferred_at": AT},
    ),
    (
        "rollback_budget.workflow.review_trigger.ReviewTrigger",
        "rollback_budget.triggers.review.ReviewTrigger",
        {
            "ti_id": TI,
            "deadline": AT,
            "default": "Roll back now",
            "dag_id": "d",
            "run_id": "r",
            "deferred_at": AT,
            "order": None,
            "reason": "",
            "round_": 1,
            "budgets": [],
            "window_end": AT,
        },
    ),
    (
        "rollback_budget.workflow.prior_answer.PriorAnswerTrigger",
        "rollback_budget.triggers.hitl_response.PriorAnswerTrigger",
        {"ti_id": TI, "deferred_at": AT},
    ),
    (
        "rollback_budget.workflow.reminder.ReminderTrigger",
        "rollback_budget.triggers.reminder.ReminderTrigger",
        {"dag_id": "d", "run_id": "r", "round_": 1, "until": AT, "deferred_at": AT},
    ),
    (
        "rollback_budget.workflow.stage_trigger.StageTrigger",
        "rollback_budget.triggers.stage.StageTrigger",
        {"dag_id": "d", "run_id": "r", "until": AT, "deferred_at": AT},
    ),
]
NOTIFIERS = {
    f"rollback_budget.workflow.webhook.{name}": f"rollback_budget.notifications.webhook.{name}"
    for name in ("WebhookNotifier", "TeamsNotifier")
}
#: Where a task goes on when its trigger fires: the method's name is kept with the task.
NEXT_METHODS = {
    "rollback_budget.sensors.rollback_budget.RollbackBudgetSensor": {"execute_complete"},
    "rollback_budget.sensors.rollout_round.WatchSensor": {"execute_complete"},
    "rollback_budget.sensors.rollout_round.GuardSensor": {"execute_complete"},
    "rollback_budget.operators.review.ReviewOperator": {"execute_complete", "execute_again"},
    "rollback_budget.operators.launch_gate.LaunchGateOperator": {"execute_complete", "execute_again"},
    "rollback_budget.operators.traffic_ramp.StagesOperator": {"execute_complete"},
    "rollback_budget.operators.preflight.PreflightOperator": {"execute_again"},
    "rollback_budget.operators.eval_debt.FileDebtOperator": {"execute_again"},
    "rollback_budget.operators.announce.AnnounceRoundOperator": {"tell_half_time", "tell_decision"},
}
XCOM_KEYS = {
    "ANSWER_KEY": "answer",
    "ASKED_UNTIL_KEY": "asked_until",
    "BASELINE_KEY": "baseline",
    "DEADLINE_KEY": "review_deadline",
    "REPORT_KEY": "report",
    "REQUEST_KEY": "rollback_request",
    "SURVEY_KEY": "survey",
}
ROUND = {
    "watch", "decide", "kept", "breached", "log_breach", "announce", "review", "guard", "overruled",
    "accepted", "log_guard_breach",
}  # fmt: skip
LAST_ROUND = {"watch", "decide", "kept", "breached", "log_breach", "announce"}
TASKS = {
    "preflight", "launch_gate", "ship", "stages", "rollback", "record_rollback", "announce_rollback",
    "promote", "announce_promotion",
}  # fmt: skip
DEBT_TASKS = {
    "eval_debt": {"log_debt", "file_debt", "draft_cases"},
    "eval_debt_reconcile": {"log_debt", "age_debt", "file_debt", "post_backlog"},
}
OPTIONS = {
    "sql_alchemy_conn",
    "pool",
    "budgets_folder",
    "backlog_folder",
    "cases_folder",
    "gate_folder",
    "jira_conn_id",
}
REVISIONS = ["0001", "0002", "0003", "0004", "0005", "0006"]


def found(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize(("old", "home"), [(old, home) for old, home, _ in TRIGGERS] + [*NOTIFIERS.items()])
def test_an_old_path_leads_to_the_class_in_its_new_home(old: str, home: str) -> None:
    assert found(old) is found(home)


@pytest.mark.parametrize(("path", "home", "arguments"), TRIGGERS)
def test_a_trigger_is_written_under_its_old_path_and_made_again_from_what_is_written(
    path: str, home: str, arguments: dict[str, Any]
) -> None:
    trigger: BaseTrigger = found(home)(**arguments)
    assert trigger.serialize() == (path, arguments)


@pytest.mark.parametrize(("path", "home", "arguments"), TRIGGERS)
def test_a_trigger_is_made_from_arguments_that_a_version_has_given_up(
    path: str, home: str, arguments: dict[str, Any]
) -> None:
    trigger = found(path)(**arguments, an_argument_of_another_version=1)
    assert trigger.serialize() == (path, arguments)


def test_a_watch_of_the_first_version_goes_on() -> None:
    plan = WatchPlan.model_validate(persisted("first_watch_plan.json"))
    assert (plan.spec.release, plan.round_, len(plan.overrides)) == ("model-v42", 1, 1)
    assert plan.latest_end > plan.window_end


@pytest.mark.parametrize(("path", "methods"), NEXT_METHODS.items())
def test_a_task_that_waits_is_resumed_by_the_method_that_it_named(path: str, methods: set[str]) -> None:
    assert {name for name in methods if callable(getattr(found(path), name, None))} == methods


def test_the_keys_of_xcom_are_the_same() -> None:
    assert {name: getattr(xcom, name) for name in XCOM_KEYS} == XCOM_KEYS


def test_a_task_reads_what_tasks_of_an_older_version_left_in_xcom() -> None:
    left = persisted("xcom.json")

    class Pulls:
        def xcom_pull(self, *, task_ids: str, key: str) -> Any:
            return left.get(f"{task_ids}/{key}")

    context: Any = {"ti": Pulls()}
    values = RolloutXcom(Tasks(), context)
    assert values.spec().release == "model-v42"
    assert values.shipment() == Shipment.model_validate(left["ship/return_value"])
    for task in ("watch", "guard"):
        evaluation = values.evaluation(1, task)
        assert evaluation is not None
        assert len(evaluation.breaches) == 1
    [answer] = values.answers(before=2)
    assert (answer.author, answer.go_on, answer.mute) == ("casey", True, True)
    assert len(values.overrides(before=2)) == 1
    assert values.pull("round_1.decide", xcom.DEADLINE_KEY) == "2026-03-01T12:15:00+00:00"
    report = RollbackReport.model_validate(values.pull("rollback", xcom.REPORT_KEY))
    assert report.is_settled
    assert RollbackContext.model_validate(values.pull("verdict")).verdict == "breach"


def test_a_verdict_of_the_first_version_is_read() -> None:
    evaluation = Evaluation.model_validate(persisted("first_evaluation.json"))
    assert evaluation.breaches[0].delta == 31.0


@pytest.mark.parametrize(
    ("key", "model"),
    [
        ("ship/return_value", Shipment),
        ("round_1.watch/return_value", Evaluation),
        ("round_1.review/answer", ReviewAnswer),
        ("rollback/report", RollbackReport),
        ("verdict/return_value", RollbackContext),
    ],
)
def test_a_value_in_xcom_keeps_its_fields(key: str, model: Any) -> None:
    left = persisted("xcom.json")[key]
    assert left.keys() <= model.model_validate(left).model_dump(mode="json").keys()


def test_the_tasks_of_a_rollout_keep_their_ids() -> None:
    from airflow.sdk import DAG

    spec = WatchPlan.model_validate(persisted("first_watch_plan.json")).spec
    target = HttpTarget.model_validate(
        {
            "conn_id": "router",
            "read": {"method": "GET", "path": "/traffic", "weights": "weights"},
            "stages": [{"traffic": 0.1, "hold": "PT1H"}, {"traffic": 0.5, "hold": "PT1H"}],
        }
    )
    with DAG("rollout", schedule=None) as dag:
        build_rollout(spec.model_copy(update={"target": target}), "model-v42.yaml", Tasks())
    rounds = {f"round_{n}.{name}" for n in (1, 2) for name in ROUND}
    assert set(dag.task_ids) == TASKS | rounds | {f"round_3.{name}" for name in LAST_ROUND}


def test_the_tasks_of_eval_debt_keep_their_ids() -> None:
    from rollback_budget import eval_debt_dag, eval_debt_reconcile_dag

    dags = {dag.dag_id: set(dag.task_ids) for dag in (eval_debt_dag(), eval_debt_reconcile_dag())}
    assert dags == DEBT_TASKS


def test_the_asset_of_a_breach_keeps_its_name() -> None:
    assert (BREACH.name, BREACH.uri) == ("rollback_budget.breach", "rollback_budget.breach")


def test_every_option_of_the_configuration_is_still_there() -> None:
    assert config.SECTION == "rollback_budget"
    assert get_provider_info()["config"]["rollback_budget"]["options"].keys() >= OPTIONS


def test_revisions_of_the_ledger_are_only_added() -> None:
    from alembic.script import ScriptDirectory

    import rollback_budget.ledger

    folder = Path(rollback_budget.ledger.__file__).with_name("migrations")
    revisions = [one.revision for one in ScriptDirectory(str(folder)).walk_revisions()]
    assert revisions[::-1][: len(REVISIONS)] == REVISIONS


def options_of(command: click.Command, name: str = "rollback-budget") -> dict[str, set[str]]:
    """Return the options of a command and of every command below it, by their full name."""
    options = [one for one in command.params if isinstance(one, click.Option)]
    all_options = {name: {flag for one in options for flag in (*one.opts, *one.secondary_opts)}}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for child in command.list_commands(context):
            found_child = command.get_command(context, child)
            assert found_child is not None
            all_options |= options_of(found_child, f"{name} {child}")
    return all_options


def test_every_command_and_option_is_still_there() -> None:
    now = options_of(cli)
    for command, options in persisted("commands.json").items():
        assert set(options) <= now.get(command, set()), command
        assert command in now


def test_exit_codes_are_documented_as_they_were() -> None:
    # What each command does to get them is tested beside the command.
    said = " ".join((cli.help or "").split())
    assert "0 fine, 1 an error" in said
    assert "`replay` adds 2 breach and 3 blind" in said
    assert "`gate check` adds 4 ask and 5 block" in said


@pytest.mark.parametrize("name", ["budget", "case", "evaluation", "spec"])
def test_a_json_schema_loses_no_property(name: str) -> None:
    schema = json.loads((ROOT / "docs" / f"{name}.schema.json").read_text())
    now = {"(root)": schema, **schema.get("$defs", {})}
    for definition, properties in persisted("schemas.json")[name].items():
        assert set(properties) <= now.get(definition, {}).get("properties", {}).keys(), definition


def test_a_waiting_trigger_of_an_older_version_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from rollback_budget.triggers import reminder

    monkeypatch.setattr(reminder, "review_is_over", lambda _key, _round: True)
    path, _, arguments = TRIGGERS[3]
    trigger: BaseTrigger = found(path)(**{**arguments, "until": "2999-01-01T00:00:00+00:00"}, retired=None)

    async def first_event() -> Any:
        async for event in trigger.run():
            return event.payload
        return None

    monkeypatch.setattr(reminder, "PAUSE_S", 0.0)
    assert asyncio.run(first_event()) == {"is_over": True}
