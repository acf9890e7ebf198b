"""The http target speaks to any control plane, and everything it sends is data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from rollback_budget.exceptions import TargetError
from rollback_budget.model.target import HttpRead, HttpTarget, HttpWrite
from rollback_budget.targets.base import Serving
from rollback_budget.targets.http import HttpControl
from rollback_budget.transport.response import Response

pytestmark = pytest.mark.pure

HOSTILE = "v2\"}{{ config }} \n'; DROP TABLE x; --/../?#"


def answer_of(status: int, text: str) -> Response:
    return Response(status, {}, text.encode())


@dataclass
class Wire:
    answer: Response
    sent: list[tuple[str, str, Any, Mapping[str, str]]] = field(default_factory=list)

    def __call__(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> Response:
        self.sent.append((method, path, body, headers))
        return self.answer


def control(answer: Response, release: str = "v2", **read: Any) -> tuple[HttpControl, Wire]:
    wire = Wire(answer)
    config = HttpTarget(
        conn_id="router",
        read=HttpRead(path="/routes/$release", **{"weights": "spec.weights", **read}),
        write=HttpWrite(
            path="/routes/$release",
            body={
                "weights": {"$release": "$release_share", "$baseline": "$baseline_share"},
                "note": "to $release",
            },
            headers={"If-Match": "$revision", "Idempotency-Key": "$idempotency_key"},
        ),
    )
    return HttpControl(config, release, "v1", wire), wire


def test_weights_of_any_scale_become_shares() -> None:
    target, _ = control(
        answer_of(200, '{"spec": {"weights": {"v1": 90, "v2": 10}}, "rev": 7}'), revision="rev"
    )
    serving = target.read()
    assert serving == Serving({"v1": 0.9, "v2": 0.1}, "7")
    assert str(serving) == "v1 90 %, v2 10 %"


def test_what_is_sent_is_data_and_never_a_template() -> None:
    target, wire = control(answer_of(204, ""), release=HOSTILE)
    target.apply({HOSTILE: 0.0, "v1": 1.0}, expected=Serving({}, "7"), idempotency_key="run/1")
    method, path, body, headers = wire.sent[0]
    assert method == "PUT"
    assert path.startswith("/routes/v2%22%7D")
    assert path.count("/") == 2
    assert body == {"weights": {HOSTILE: 0.0, "v1": 1.0}, "note": "to $release"}
    assert headers == {"If-Match": "7", "Idempotency-Key": "run/1"}


def test_a_header_without_a_value_is_left_out() -> None:
    target, wire = control(answer_of(200, ""))
    target.apply({"v2": 0.0, "v1": 1.0}, expected=Serving({}), idempotency_key="k")
    assert "If-Match" not in wire.sent[0][3]


@pytest.mark.parametrize(
    ("status", "conflict", "accepted"),
    [(409, True, False), (412, True, False), (500, False, None), (503, False, None), (403, False, False)],
)
def test_a_refusal_says_whether_it_may_have_taken_effect(
    status: int, conflict: bool, accepted: bool | None
) -> None:
    target, _ = control(answer_of(status, "why"))
    with pytest.raises(TargetError, match=f"{status} 'why'") as caught:
        target.apply({"v2": 0.0, "v1": 1.0}, expected=Serving({}), idempotency_key="k")
    assert (caught.value.conflict, caught.value.accepted) == (conflict, accepted)


@pytest.mark.parametrize(
    "answer",
    [
        answer_of(500, "down"),
        answer_of(200, "<html>login</html>"),
        answer_of(200, "{}"),
        answer_of(200, '{"spec": {"weights": {"v1": "all"}}}'),
        answer_of(200, '{"spec": {"weights": {"v1": -1}}}'),
        answer_of(200, '{"spec": {"weights": [1, 2]}}'),
    ],
    ids=["error", "html", "missing", "text", "negative", "list"],
)
def test_an_unreadable_answer_is_an_error_that_quotes_it(answer: Response) -> None:
    target, _ = control(answer)
    with pytest.raises(TargetError):
        target.read()


def test_no_version_serving_is_not_an_error() -> None:
    target, _ = control(answer_of(200, '{"spec": {"weights": {"v1": 0}}}'))
    assert str(target.read()) == "no version"
