"""Real control planes: an MLflow tracking server, Unleash on PostgreSQL, by Airflow connections."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from rollback_budget.exceptions import TargetError
from rollback_budget.hooks.traffic_target import open_target
from rollback_budget.model.target import MlflowTarget, UnleashTarget
from rollback_budget.targets.apply import Outcome, TrafficChange, change_traffic
from rollback_budget.targets.base import Serving
from tests.support.counterparts import ADMIN_TOKEN, running_mlflow, running_unleash
from tests.support.postgres import Postgres
from tests.support.rollouts import make_spec

pytestmark = [pytest.mark.airflow, pytest.mark.service, pytest.mark.timeout(600)]

RELEASE, BASELINE = "model-v42", "model-v41"
BACK = {RELEASE: 0.0, BASELINE: 1.0}
TENTH = {RELEASE: 0.1, BASELINE: 0.9}


def call(url: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
    answer = httpx.request(method, url + path, json=body, headers=headers, trust_env=False, timeout=20)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


def connect(monkeypatch: pytest.MonkeyPatch, url: str, **extra: str) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    host, _, port = url.removeprefix("http://").partition(":")
    connection = {"conn_type": "http", "host": host, "port": int(port), "schema": "http", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_PLANE", json.dumps(connection))


def move(target: Any, shares: dict[str, float], *before: dict[str, float]) -> Outcome:
    change = TrafficChange(shares, list(before) or None, "k", timedelta(seconds=20))
    return change_traffic(target, change, poll=timedelta(milliseconds=100)).outcome


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_mlflow(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@pytest.fixture
def model(mlflow: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A registered model whose version 1 is the baseline and serves; 2 is the release."""
    connect(monkeypatch, mlflow)
    name = request.node.name
    api = "/api/2.0/mlflow"
    call(mlflow, "POST", f"{api}/registered-models/create", {"name": name})
    for version in (BASELINE, RELEASE):
        tags = [{"key": "release", "value": version}]
        body = {"name": name, "source": "s3://models/x", "tags": tags}
        call(mlflow, "POST", f"{api}/model-versions/create", body)
    alias = {"name": name, "alias": "champion", "version": "1"}
    call(mlflow, "POST", f"{api}/registered-models/alias", alias)
    return name


def registry(model: str, **further: Any) -> Any:
    return open_target(make_spec(target=MlflowTarget(conn_id="plane", model=model, **further)))


def test_an_alias_of_mlflow_goes_to_the_release_and_back(model: str, mlflow: str) -> None:
    target = registry(model, version_tag="release", ship_share=1.0)
    assert move(target, {RELEASE: 1.0, BASELINE: 0.0}) is Outcome.EFFECTIVE
    assert target.read() == Serving({RELEASE: 1.0}, "2/None")
    assert move(target, BACK, {RELEASE: 1.0, BASELINE: 0.0}) is Outcome.EFFECTIVE
    assert "version 1 of" in target.rehearse(target.read())[0]


def test_a_candidate_alias_carries_its_share_and_is_taken_back_to_the_baseline(
    model: str, mlflow: str
) -> None:
    versions = {RELEASE: "2", BASELINE: "1"}
    target = registry(model, candidate_alias="challenger", versions=versions, ship_share=0.1)
    assert move(target, TENTH) is Outcome.EFFECTIVE
    assert move(target, BACK, TENTH) is Outcome.EFFECTIVE
    path = f"/api/2.0/mlflow/registered-models/alias?name={model}&alias=challenger"
    assert call(mlflow, "GET", path)["model_version"]["version"] == "1"
    assert move(target, {RELEASE: 1.0, BASELINE: 0.0}, BACK) is Outcome.EFFECTIVE


def test_a_release_that_was_deleted_does_not_serve_and_keeps_no_rollback_from_being_effective(
    model: str, mlflow: str
) -> None:
    target = registry(model, candidate_alias="challenger", version_tag="release", ship_share=0.1)
    assert "points at no version" in " ".join(target.rehearse(target.read()))
    assert move(target, TENTH) is Outcome.EFFECTIVE
    call(mlflow, "DELETE", "/api/2.0/mlflow/model-versions/delete", {"name": model, "version": "2"})
    assert target.read().shares == {BASELINE: 1.0}
    assert move(target, BACK, TENTH) is Outcome.EFFECTIVE


def test_an_alias_that_another_user_moved_is_not_changed(model: str, mlflow: str) -> None:
    api = "/api/2.0/mlflow"
    call(mlflow, "POST", f"{api}/model-versions/create", {"name": model, "source": "s3://models/x"})
    target = registry(model, version_tag="release", ship_share=1.0)
    seen = target.read()
    alias = {"name": model, "alias": "champion", "version": "3"}
    call(mlflow, "POST", f"{api}/registered-models/alias", alias)
    with pytest.raises(TargetError) as caught:
        target.apply(BACK, expected=seen, idempotency_key="k")
    assert caught.value.conflict
    assert move(target, BACK, {RELEASE: 1.0, BASELINE: 0.0}) is Outcome.SUPERSEDED
    assert str(target.read()) == "version 3 100 %"


@pytest.mark.parametrize(
    ("further", "said"),
    [
        ({"versions": {RELEASE: "2", BASELINE: "77"}}, "77"),
        ({}, "names no version of the registered model"),
        ({"version_tag": "nothing"}, "no version of .* has the tag"),
    ],
)
def test_a_version_that_the_registry_does_not_have_is_found_before_shipping(
    model: str, further: dict[str, Any], said: str
) -> None:
    with pytest.raises(TargetError, match=said):
        registry(model, ship_share=1.0, **further).rehearse(Serving({BASELINE: 1.0}))


@pytest.fixture(scope="module")
def unleash(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_unleash(tmp_path_factory.mktemp("unleash"), postgres.database()) as url:
        yield url


@pytest.fixture
def flag(unleash: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A flag that is on for no user in production, with a variant for each version."""
    connect(monkeypatch, unleash, Authorization=ADMIN_TOKEN)
    name = request.node.name.replace("[", "-").replace("]", "")
    call(unleash, "POST", FEATURES, {"name": name, "type": "release"}, Authorization=ADMIN_TOKEN)
    strategy = {
        "name": "flexibleRollout",
        "parameters": {"rollout": "0", "stickiness": "default", "groupId": name},
        "constraints": [{"contextName": "userId", "operator": "NOT_IN", "values": ["7"]}],
        "variants": [
            {"name": version, "weight": weight, "weightType": kind, "stickiness": "default"}
            for version, weight, kind in ((BASELINE, 1000, "variable"), (RELEASE, 0, "fix"))
        ],
    }
    path = f"{FEATURES}/{name}/environments/production/strategies"
    call(unleash, "POST", path, strategy, Authorization=ADMIN_TOKEN)
    return name


FEATURES = "/api/admin/projects/default/features"


def flags(flag: str, **further: Any) -> Any:
    return open_target(make_spec(target=UnleashTarget(conn_id="plane", flag=flag, **further)))


def strategy_of(unleash: str, flag: str) -> dict[str, Any]:
    path = f"{FEATURES}/{flag}/environments/production"
    [strategy] = call(unleash, "GET", path, Authorization=ADMIN_TOKEN)["strategies"]
    found: dict[str, Any] = strategy
    return found


def test_a_flags_rollout_is_raised_and_taken_back_and_the_rest_of_it_stays(flag: str, unleash: str) -> None:
    target = flags(flag)
    before = strategy_of(unleash, flag)
    condition, permission = target.rehearse(target.read())
    assert (
        "is behind the constraint userId NOT_IN: its percentage is of the users who fulfil that" in condition
    )
    assert permission == "the token may write: it has ADMIN"
    assert move(target, TENTH, BACK) is Outcome.EFFECTIVE
    assert move(target, BACK, TENTH) is Outcome.EFFECTIVE
    assert strategy_of(unleash, flag) == before


def test_a_flags_variants_divide_the_traffic_in_tenths_of_a_percent(flag: str, unleash: str) -> None:
    whole = strategy_of(unleash, flag)
    path = f"{FEATURES}/{flag}/environments/production"
    parameters = {**whole["parameters"], "rollout": "100"}
    strategy = {"name": whole["name"], "parameters": parameters, "variants": whole["variants"]}
    call(unleash, "PUT", f"{path}/strategies/{whole['id']}", strategy, Authorization=ADMIN_TOKEN)
    call(unleash, "POST", f"{path}/on", Authorization=ADMIN_TOKEN)
    target = flags(flag, by="variants", dry_run="write_current")
    assert "writing what is there already was accepted" in target.rehearse(target.read())
    little = {RELEASE: 0.005, BASELINE: 0.995}
    assert move(target, little, BACK) is Outcome.EFFECTIVE
    assert move(target, BACK, little) is Outcome.EFFECTIVE
    with pytest.raises(TargetError, match="tenths of a percent"):
        target.apply({RELEASE: 1 / 3, BASELINE: 2 / 3}, expected=target.read(), idempotency_key="k")


def test_a_flag_that_another_user_changed_is_not_changed(flag: str, unleash: str) -> None:
    target = flags(flag)
    assert move(target, TENTH) is Outcome.EFFECTIVE
    seen = target.read()
    path = f"{FEATURES}/{flag}/environments/production"
    call(unleash, "POST", f"{path}/off", Authorization=ADMIN_TOKEN)
    with pytest.raises(TargetError) as caught:
        target.apply(BACK, expected=seen, idempotency_key="k")
    assert caught.value.conflict


def test_a_token_that_may_not_is_refused_before_shipping_and_not_shown(
    flag: str, unleash: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, unleash, Authorization="*:*.another-secret")
    with pytest.raises(TargetError, match="401") as caught:
        flags(flag).read()
    assert "another-secret" not in str(caught.value)
