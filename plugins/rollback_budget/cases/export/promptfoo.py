"""promptfoo: a configuration whose tests carry their case as base64.

promptfoo renders variables, prompts and assertions as templates, loads ``file://`` and ``package:`` values,
and resolves ``$ref`` anywhere in its configuration. What it does not see it cannot evaluate: the prompt
function decodes a case at the last moment, and escapes it for the one rendering that is still to come.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from typing import Any

from rollback_budget.cases.case import ExpectationKind
from rollback_budget.cases.export.approved import ApprovedCase
from rollback_budget.cases.export.base import CaseExporter
from rollback_budget.cases.export.text import template

#: Text in which promptfoo finds neither a template, a path, nor JSON.
_PLAIN = re.compile(r"[A-Za-z][\w .=+-]*")
_JSON_WORDS = frozenset({"true", "false", "null"})


class PromptfooExporter(CaseExporter):
    """A configuration for promptfoo with one test a case."""

    def files(self, cases: Sequence[ApprovedCase]) -> dict[str, str]:
        """Return the files of the export by name."""
        configuration = {
            "description": "Eval cases of Rollback Budget",
            "prompts": ["file://prompt.cjs"],
            "defaultTest": {"options": {"disableVarExpansion": True}},
            "tests": [_test(case) for case in cases],
        }
        return {
            "prompt.cjs": template("prompt.cjs"),
            "judge.cjs": template("judge.cjs"),
            **{
                _schema_name(case): json.dumps(case.expectation.value, sort_keys=True) + "\n"
                for case in cases
                if case.expectation.kind is ExpectationKind.JSON_SCHEMA
            },
            # Last: without it there is nothing to run.
            "promptfooconfig.json": json.dumps(configuration, indent=2, sort_keys=True) + "\n",
        }


def escaped(text: str) -> str:
    """Return a template that renders to ``text``, and that is not JSON."""
    return '{{ "" }}' + re.sub(r"[{}]", lambda brace: f'{{{{ "{brace[0]}" }}}}', text)


def _test(case: ApprovedCase) -> dict[str, Any]:
    whole = json.dumps(case.record(), sort_keys=True).encode("ascii")
    return {
        "description": case.case.id,
        "vars": {"case": base64.b64encode(whole).decode("ascii"), "case_id": case.case.id},
        "metadata": {
            key: value
            for key, value in case.metadata().items()
            if key == "debts" or (isinstance(value, str) and is_plain(value))
        },
        "assert": [_assertion(case)],
    }


def is_plain(text: str) -> bool:
    """Whether promptfoo leaves a text alone. What is not plain travels in the case itself."""
    is_hash = re.fullmatch(r"[0-9a-f]{32,64}", text) is not None
    return is_hash or (_PLAIN.fullmatch(text) is not None and text not in _JSON_WORDS)


def _assertion(case: ApprovedCase) -> dict[str, Any]:
    match case.expectation.kind:
        case ExpectationKind.JSON_SCHEMA:
            return {"type": "is-json", "value": f"file://{_schema_name(case)}"}
        case ExpectationKind.RUBRIC:
            texts = case.expectation.value
            rubric = "\n".join(map(str, texts)) if isinstance(texts, list) else str(texts)
            return {"type": "llm-rubric", "value": escaped(rubric)}
        case _:
            return {"type": "javascript", "value": "file://judge.cjs"}


def _schema_name(case: ApprovedCase) -> str:
    return f"schemas/{case.case.id}.json"
