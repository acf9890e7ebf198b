"""An evaluator: asks a version every approved case and judges the answers by what a person expects.

It compares texts (``exact``, ``contains``), so it needs no model to judge with. A team uses its own instead:
Inspect AI, promptfoo, DeepEval, or whatever leaves a table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import httpx

from demo.waiting import DemoError
from rollback_budget.cases.case import EvalCase, Expectation, ExpectationKind
from rollback_budget.cases.case_id import sha256

#: Models do not answer twice alike; a case is asked more than once.
RUNS = 3
TIMEOUT_S = 10.0


def run_evaluation(url: str, release: str, cases: Iterable[EvalCase], file: Path) -> int:
    """Ask ``release`` every case and write what came of it as JSON Lines; return how many runs passed.

    :param url: of the service.
    :raises DemoError: a case has no expectation that texts can be compared with.
    """
    rows = []
    with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as http:
        for case in cases:
            for run in range(RUNS):
                answered = http.post(f"/generate/{quote(release)}", json={"input": case.input})
                text = str(answered.raise_for_status().json()["text"])
                rows.append(
                    {
                        "case_id": case.id,
                        "release": release,
                        "run": run + 1,
                        "passed": meets(text, case.id, case.expectation),
                        "slice": case.slice,
                        "input_sha256": sha256(case.input),
                    }
                )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return sum(bool(row["passed"]) for row in rows)


def meets(text: str, case_id: str, expectation: Expectation | None) -> bool:
    """Return whether an answer is what was approved as right."""
    if expectation is not None and expectation.kind is ExpectationKind.EXACT:
        return text == expectation.value
    if expectation is not None and expectation.kind is ExpectationKind.CONTAINS:
        wanted = expectation.value if isinstance(expectation.value, list) else [expectation.value]
        return all(str(part).casefold() in text.casefold() for part in wanted)
    raise DemoError(f"{case_id}: this evaluator can only judge exact and contains")
