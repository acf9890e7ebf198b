"""Every example of docs/reference/targets.md loads; those for Kubernetes work against its API's rules."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rollback_budget.budget_file import load_budget
from rollback_budget.exceptions import TargetError
from rollback_budget.hooks.traffic_target import open_target
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.targets.apply import Outcome, TrafficChange, change_traffic
from tests.support.kubernetes import READER, WRITER, Cluster, running_cluster

pytestmark = [pytest.mark.airflow, pytest.mark.service]

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "targets.md").read_text()
EXAMPLES = re.findall(r"## ([^\n]+)\n(?:(?!\n## ).)*?```yaml\n(target:.*?)```", PAGE, flags=re.DOTALL)
SERVICE = "/apis/serving.kserve.io/v1beta1/namespaces/models/inferenceservices/assistant"
ROLLOUT = "/apis/argoproj.io/v1alpha1/namespaces/models/rollouts/assistant"


def spec_of(example: str, folder: Path) -> RolloutSpec:
    rule = "release: '7'\nbaseline: '6'\nwindow: 24h\nrollback_budget: {a: {x_above: 1, max_duration: 5m}}\n"
    (folder / "budget.yaml").write_text(rule + example)
    return load_budget(folder / "budget.yaml")


@pytest.mark.parametrize(("heading", "example"), EXAMPLES, ids=[heading for heading, _ in EXAMPLES])
def test_every_example_loads(heading: str, example: str, tmp_path: Path) -> None:
    assert open_target(spec_of(example, tmp_path)) is not None


def test_there_is_an_example_for_each_type() -> None:
    assert {re.findall(r"type: (\w+)", example)[0] for _, example in EXAMPLES if "type:" in example} == {
        "http",
        "mlflow",
        "unleash",
        "flagd",
    }


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("NO_PROXY", "*")
    with running_cluster() as running:
        connect(monkeypatch, running, WRITER)
        yield running


def connect(monkeypatch: pytest.MonkeyPatch, cluster: Cluster, token: str) -> None:
    host, _, port = cluster.url.removeprefix("http://").partition(":")
    connection = {"conn_type": "http", "host": host, "port": int(port), "password": token}
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES", json.dumps(connection))


def target_of(heading: str, folder: Path) -> Any:
    return open_target(spec_of(dict(EXAMPLES)[heading], folder))


def roll_back(target: Any) -> Outcome:
    change = TrafficChange({"7": 0.0, "6": 1.0}, [{"7": 0.1, "6": 0.9}], "k", timedelta(seconds=5))
    return change_traffic(target, change, poll=timedelta(milliseconds=50)).outcome


def test_a_canary_of_kserve_is_shipped_and_rolled_back_with_whole_percents(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.put(SERVICE, {"spec": {"predictor": {"canaryTrafficPercent": 0}}})
    target = target_of("KServe", tmp_path)
    assert target.rehearse(target.read())[0] == "target.check was answered with 200"
    assert cluster.patches == []
    target.apply({"7": 0.1, "6": 0.9}, expected=target.read(), idempotency_key="k")
    assert cluster.patches[-1]["spec"] == {"predictor": {"canaryTrafficPercent": 10}}
    assert roll_back(target) is Outcome.EFFECTIVE


def test_kserve_where_nothing_divides_the_traffic_is_refused_before_shipping(
    cluster: Cluster, tmp_path: Path
) -> None:
    raw = {"annotations": {"serving.kserve.io/deploymentMode": "RawDeployment"}}
    cluster.put(SERVICE, {"metadata": raw, "spec": {"predictor": {"canaryTrafficPercent": 10}}})
    with pytest.raises(TargetError, match="must give the release's share"):
        target_of("KServe", tmp_path).read()


def test_a_stale_resource_version_is_a_conflict(cluster: Cluster, tmp_path: Path) -> None:
    cluster.put(SERVICE, {"spec": {"predictor": {"canaryTrafficPercent": 10}}})
    target = target_of("KServe", tmp_path)
    seen = target.read()
    cluster.patch(SERVICE, {"spec": {"predictor": {"canaryTrafficPercent": 30}}}, dry_run=False)
    with pytest.raises(TargetError) as caught:
        target.apply({"7": 0.0, "6": 1.0}, expected=seen, idempotency_key="k")
    assert caught.value.conflict
    assert roll_back(target) is Outcome.SUPERSEDED
    assert cluster.objects[SERVICE]["spec"]["predictor"]["canaryTrafficPercent"] == 30


def test_a_rollout_of_argo_is_aborted(cluster: Cluster, tmp_path: Path) -> None:
    weights = {"canary": {"weight": 10}, "stable": {"weight": 90}}
    cluster.put(ROLLOUT, {"status": {"canary": {"weights": weights}}})
    target = target_of("Argo Rollouts", tmp_path)
    target.rehearse(target.read())
    assert cluster.patches == []
    assert roll_back(target) is Outcome.EFFECTIVE
    assert cluster.patches[-1]["status"] == {"abort": True}


def test_a_token_that_may_only_read_is_found_before_shipping(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.put(SERVICE, {"spec": {"predictor": {"canaryTrafficPercent": 0}}})
    connect(monkeypatch, cluster, READER)
    target = target_of("KServe", tmp_path)
    with pytest.raises(TargetError, match=r"403.*a rollback would be refused") as caught:
        target.rehearse(target.read())
    assert READER not in str(caught.value)
