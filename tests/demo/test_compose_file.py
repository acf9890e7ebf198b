from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft201909Validator

from rollback_budget.budget_file import load_budget
from rollback_budget.model.source import SqlSource

pytestmark = pytest.mark.pure

ROOT = Path(__file__).parents[2]
VARIABLE = re.compile(r"\$\{[A-Z_]+:-([^}]*)\}")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert isinstance(document, dict)
    return document


def test_the_file_is_valid_compose(compose: dict[str, Any]) -> None:
    schema = json.loads(Path(__file__).with_name("compose-spec.json").read_text())
    assert [error.message for error in Draft201909Validator(schema).iter_errors(compose)] == []
    assert "version" not in compose


def test_every_service_is_healthy_or_ends_before_others_lean_on_it(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert {"api-server", "scheduler", "dag-processor", "triggerer", "postgres", "service"} <= services.keys()
    assert [name for name in services if name != "init" and "healthcheck" not in services[name]] == []
    for service in services.values():
        for needed, how in service.get("depends_on", {}).items():
            ends = how["condition"] == "service_completed_successfully"
            assert ends == (needed == "init")
    assert services["init"]["depends_on"].keys() == {"postgres", "ledger"}
    migrations = services["init"]["command"][0]
    assert "airflow db migrate" in migrations
    assert "rollback-budget ledger migrate" in migrations


def test_what_the_budgets_of_this_repository_need_is_there(compose: dict[str, Any]) -> None:
    spec = load_budget(ROOT / "budgets" / "model-v42.yaml")
    environment = compose["services"]["triggerer"]["environment"]
    assert isinstance(spec.source, SqlSource)
    assert spec.target is not None
    for conn_id in (spec.source.conn_id, spec.target.conn_id):
        assert f"AIRFLOW_CONN_{conn_id.upper()}" in environment
    for commander in spec.incident_commanders:
        assert f"{commander.id}:" in environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"]
        assert f'"{commander.id}"' in compose["services"]["init"]["command"][0]


def test_every_volume_is_declared_and_every_bind_mount_exists(compose: dict[str, Any]) -> None:
    mounted = {
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
    }
    folders = {source for source in mounted if source.startswith(".")}
    assert mounted - folders == compose["volumes"].keys()
    assert all((ROOT / folder).is_dir() for folder in folders)


def test_images_are_pinned_to_the_airflow_that_is_tested(compose: dict[str, Any]) -> None:
    images = {service["image"] for service in compose["services"].values()}
    assert images == {"rollback-budget-airflow:3.3.2-python3.11", "postgres:16"}
    assert "FROM apache/airflow:3.3.2-python3.11\n" in (ROOT / "demo" / "Dockerfile").read_text()
    assert "apache-airflow==3.3.2" in (ROOT / "constraints.txt").read_text().splitlines()


def test_no_secret_is_written_down_but_local_defaults_that_say_so(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for name, value in service["environment"].items():
            for default in VARIABLE.findall(value):
                assert default.startswith("local-default") or default.isdigit() or default == ""
            if re.search(r"PASSWORD$|SECRET|KEY$", name):
                assert VARIABLE.fullmatch(value), f"{name} must come from a variable"
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
