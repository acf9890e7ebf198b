"""What a budget file freezes to stays the same in every version: it travels, and is compared by digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollback_budget.budget_file import load_budget
from rollback_budget.model.spec import RolloutSpec
from tests.support.full_budgets import FULL

pytestmark = pytest.mark.pure

DIGESTS = {
    "sql": "3cc8dfcf654d5a5418d1be12c0b6de996874a22e74b0241479993758eb91f1a0",
    "scores": "310309a13a1d352ec54594843c2ec62cfa8485ef68d6980f4099f3bca54ce5c4",
    "aggregate": "16e43ce1b8ee05e6ef97ca102d9edef5dd1d9f96ad8de3a92ce7208d6231a6ae",
    "prometheus": "99c99d3474dcca7168f4b8f78db5fd66ac40f948abf56f309c5cea58db68da07",
    "http_json": "660520bc97566462f50c7fdef9a5d6ef15092acc1575efd864a99756911c4986",
    "datadog": "b2db3b6ff19282892d7f71fa7c6074b0e947e95e3f49fede7767e867a0317721",
    "langfuse": "da97c2c11beb46c73c0298d7699b8ea82ce277d0d1f66cd41771937d1514622c",
    "recorded": "c8d89c36c3891ab7fe7756013b3bd662d47a30e1734cce07af2b86607cb9c6bf",
}


@pytest.mark.parametrize("name", FULL)
def test_a_budget_that_says_everything_freezes_to_the_same_digest_as_ever(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(FULL[name], encoding="utf-8")
    spec = load_budget(path)
    assert spec.sha256 == DIGESTS[name]
    again = RolloutSpec.model_validate_json(spec.canonical_json())
    assert again == spec
    assert again.sha256 == spec.sha256


def test_the_budget_of_this_repository_freezes_to_the_same_digest_as_ever() -> None:
    spec = load_budget(Path(__file__).parents[2] / "budgets" / "model-v42.yaml")
    assert spec.sha256 == "15c0ea01156991339f0aa0173069da6bff33337c54eadb4b367c26a2efa784f3"
