"""The gate's own process: reads a request as JSON, judges the launch, writes the result as JSON.

Great Expectations takes seconds and two hundred megabytes to load; no process that parses DAGs does so.
"""

from __future__ import annotations

import os
import sys

from pydantic import Field
from sqlalchemy import Engine

from rollback_budget.exceptions import EvalError
from rollback_budget.gate.request import GateRequest
from rollback_budget.model.base import Frozen


class GateProcessInput(Frozen):
    """What the process is asked.

    :param uris: of the connections that the results are behind; through a pipe, so that no process list and
        no environment shows them.
    """

    request: GateRequest
    uris: dict[str, str] = Field(default_factory=dict)


def main() -> None:
    """Judge the launch on standard input; whatever libraries print goes to the log."""
    from rollback_budget.gate.check import check_launch

    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    task = GateProcessInput.model_validate_json(sys.stdin.buffer.read())

    def open_engine(conn_id: str) -> Engine:
        try:
            from rollback_budget.hooks.metric_source import engine_of

            return engine_of(conn_id, task.uris[conn_id])
        except Exception as error:
            raise EvalError(
                f"connection {conn_id!r} of the results cannot be used: {type(error).__name__}"
            ) from error

    with answer:
        answer.write(check_launch(task.request, open_engine).model_dump_json())


if __name__ == "__main__":
    main()
