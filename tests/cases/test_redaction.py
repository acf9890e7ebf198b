"""What is redacted, and what is left as it was."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.cases.redact import Redactor
from rollback_budget.model.case_source import Redaction
from tests.support.examples import examples

pytestmark = pytest.mark.pure

REDACTOR = Redactor(Redaction(phone_regions=("US", "DE"), patterns={"order": r"ORD-\d+"}))
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA7\nabc+/=\n-----END RSA PRIVATE KEY-----"

SECRETS = [
    ("email", "jane.doe+news@mail.example.co.uk", "jane"),
    ("email", "mailto:jane@example.com?subject=hi", "jane@"),
    ("email", "<jane@example.com>", "jane"),
    ("email", "jane%40example.com", "jane"),
    ("email", "ja\u200bne@exam\u00adple.com", "ne@"),
    ("email", "jane\uff20example.com", "jane"),
    ("email", "почта@пример.рф", "пример"),
    ("email", '"jane doe"@example.com', "doe"),
    ("email", "root@localhost", "root"),
    ("email", "a" * 90 + "@example.com", "aaa"),
    ("phone", "+1 (415) 555-2671", "2671"),
    ("phone", "415-555-2671", "2671"),
    ("phone", "(415) 555-2671", "2671"),
    ("phone", "+49 171 2345678", "2345678"),
    ("phone", "0171/2345678", "2345678"),
    ("phone", "0049 171 2345678", "2345678"),
    ("phone", "+\u0664\u0669 \u0661\u0667\u0661 \u0662\u0663\u0664\u0665\u0666\u0667\u0668", "\u0667\u0668"),
    ("card", "4111 1111 1111 1111", "1111"),
    ("card", "4111-1111-1111-1111", "1111"),
    ("card", "4111111111111111", "1111"),
    ("card", "3782 822463 10005", "10005"),
    ("card", "4111\u00a01111\u00a01111\u00a01111", "1111"),
    ("card", "order 12 4111 1111 1111 1111 05/29", "4111"),
    ("secret", "AKIAIOSFODNN7EXAMPLE", "AKIA"),
    ("secret", "ghp_" + "a1B2" * 9, "a1B2"),
    ("secret", "github_pat_" + "a1B2" * 9, "a1B2"),
    ("secret", "sk-proj-" + "a1B2c3D4" * 5, "c3D4"),
    ("secret", "sk-ant-api03-" + "a1B2c3D4" * 5 + "-xyz_AA", "xyz"),
    ("secret", "xoxb-123456789012-abcdefABCDEF", "abcdef"),
    ("secret", "hf_" + "abcdEFGH" * 4, "EFGH"),
    ("secret", JWT, "dozj"),
    ("secret", PEM, "MIIE"),
    ("secret", "postgres://admin:hunter2@db.internal/prod", "hunter2"),
    ("secret", "password: hunter2", "hunter2"),
    ("secret", "my password = 'correct horse battery'", "horse"),
    ("secret", '{"api_key": "abc123"}', "abc123"),
    ("secret", r"{\"api_key\": \"abc123\"}", "abc123"),
    ("secret", "DB_PASSWORD=hunter2", "hunter2"),
    ("secret", "Authorization: Bearer abc.def-ghi_jkl", "ghi"),
    ("secret", "x-api-key: 0123456789abcdef", "cdef"),
    ("secret", "use Zm9vYmFyMTIzNDU2Nzg5MGFiY2RlZmdoaWprbG1ub3A= here", "Zm9v"),
    ("secret", "key 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "9f86"),
    ("order", "about ORD-12345678", "12345678"),
]


@pytest.mark.parametrize(("kind", "text", "hidden"), SECRETS)
def test_what_must_not_be_written_is_taken_out_whole(kind: str, text: str, hidden: str) -> None:
    redacted = REDACTOR.text(f"Hello, {text} thanks.")
    assert f"[redacted:{kind}]" in redacted
    assert hidden not in redacted
    assert redacted.startswith("Hello, ")
    assert redacted.endswith(" thanks.")


@pytest.mark.parametrize(
    "text",
    [
        "Where is my order 4821?",
        "The meeting is on 2026-06-01 at 12:30, room 404.",
        "It costs 1,299.00 EUR, not 1 299 000.",
        "version 1.2.3.4, build 20260601",
        "{{ env.HOME }} and ${HOME} and file:///etc/passwd",
        "max_tokens: 4096, tokens: 17",
        "I forgot my password and cannot sign in",
        "a token is about four characters",
        "e = mc^2 @ home",
        "550e8400-e29b-41d4-a716-446655440000",
        "-" * 80,
        "word" * 20,
    ],
)
def test_what_is_harmless_stays_as_it_was(text: str) -> None:
    assert REDACTOR.text(text) == text


def test_values_of_any_depth_are_redacted_and_so_are_keys_and_numbers() -> None:
    value = {
        "messages": [{"role": "user", "content": "I am jane@example.com", "n": 3}],
        "jane@example.com": True,
        "john@example.com": False,
        "card": 4111111111111111,
        "password": "x",
        "auth": {"access_token": "short", "tokens": 17},
        "price": 12.5,
    }
    redacted = json.dumps(REDACTOR.redact(value))
    assert not re.search(r"jane|john|4111|\"x\"|short", redacted)
    assert '"tokens": 17' in redacted
    assert '"price": 12.5' in redacted
    assert '"n": 3' in redacted
    assert redacted.count("true") == redacted.count("false") == 1


pieces = st.sampled_from([text for _, text, _ in SECRETS] + ["[redacted:email]", "[redacted:", "]"])
texts = st.lists(pieces | st.text(max_size=12) | st.text("0123456789 -.@+a", max_size=24), max_size=6)


@examples(150)
@given(texts, st.sampled_from(["", " ", "\n", "x", "@", "-"]))
def test_redacting_twice_changes_nothing(parts: list[str], between: str) -> None:
    once = REDACTOR.text(between.join(parts))
    assert REDACTOR.text(once) == once


@examples(100)
@given(st.text(max_size=30), st.sampled_from(SECRETS), st.text(max_size=30))
def test_a_secret_is_found_between_any_words(before: str, secret: tuple[str, str, str], after: str) -> None:
    kind, text, hidden = secret
    if kind in ("phone", "card") or text.startswith(("use ", "key ", "my ", "about", "order")):
        before, after = f"{before} . ", f" . {after}"
    redacted = REDACTOR.text(f"{before}\n{text}\n{after}")
    if hidden not in before and hidden not in after:
        assert hidden not in redacted


def test_a_private_key_that_was_cut_short_is_taken_out_to_the_end_of_the_text() -> None:
    cut = PEM.removesuffix("-----END RSA PRIVATE KEY-----")
    assert REDACTOR.text(f"my key: {cut}") == "my key: [redacted:secret]"


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["a", "a.", "1 ", "@", "password", "4155552671 "])
def test_a_huge_text_is_redacted(unit: str) -> None:
    assert "jane" not in REDACTOR.text(unit * (100_000 // len(unit)) + " jane@example.com")
