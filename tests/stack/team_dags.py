"""What a team writes that wraps its own deploy tasks, and one that only wants the sensor."""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TaskGroup, task

from rollback_budget import RollbackBudgetGroup, RollbackBudgetSensor
from rollback_budget.common.config import budgets_folder

BUDGET = budgets_folder() / "team.yaml"

with DAG("team_deploy", schedule=None):

    def move(release: float, baseline: float) -> None:
        import httpx
        from airflow.sdk import BaseHook

        url = BaseHook.get_connection("router_team").get_uri()
        weights = {"model-v42": release, "model-v41": baseline}
        httpx.put(f"{url}/control/traffic", json={"weights": weights}, trust_env=False).raise_for_status()

    @task
    def deploy() -> None:
        move(0.5, 0.5)

    with TaskGroup("undo") as undo:

        @task
        def announce(sentence: str, by: str) -> str:
            return f"{by}: {sentence}"

        @task
        def put_back() -> None:
            move(0.0, 1.0)

        verdict = "ti.xcom_pull(task_ids='rollback_budget.verdict')"
        announce(f"{{{{ {verdict}['sentence'] }}}}", f"{{{{ {verdict}['by'] }}}}") >> put_back()

    build = EmptyOperator(task_id="build")
    build >> RollbackBudgetGroup(
        budget=BUDGET, ship=deploy().operator, rollback=undo, promote=EmptyOperator(task_id="done")
    )

with DAG("just_a_sensor", schedule=None):
    RollbackBudgetSensor(task_id="poke", budget=BUDGET, deferrable=False)
    RollbackBudgetSensor(task_id="reschedule", budget=BUDGET, deferrable=False, mode="reschedule")
    RollbackBudgetSensor(task_id="defer", budget=BUDGET, deferrable=True)
