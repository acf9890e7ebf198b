"""Messages through real notifiers to a real webhook and a real mail server."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import BaseNotifier

from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.notify import Event, Notify
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.notifications.dispatch import notify_problems, send
from rollback_budget.notifications.notification import Notification
from rollback_budget.notifications.webhook import TeamsNotifier
from tests.support.inbox import Inbox, running_mail_server, running_webhook
from tests.support.rollouts import KEY, NOON, make_spec

pytestmark = [pytest.mark.airflow, pytest.mark.service]

LOG = logging.getLogger(__name__)
HOSTILE = "v1 {{ conf.get('core', 'fernet_key') }} {% raw %} <!channel> </b> & 100 %"
HTTP = Notify(notifier="http", conn_id="hook")


class KeptNotifier(BaseNotifier):
    """A team's own: a template field, and a constructor that calls the message ``message``."""

    template_fields = ("message",)
    kept: list[str] = []  # noqa: RUF012

    def __init__(self, *, message: str, number: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.message = message
        self.number = number

    def notify(self, context: Any) -> None:
        self.kept.append(f"{self.number}: {self.message}")


class MuteNotifier(BaseNotifier):
    """Takes no message."""

    def __init__(self, *, number: str = "") -> None:
        super().__init__()


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    with running_webhook() as inbox:
        connection = {"conn_type": "http", "host": f"http://127.0.0.1:{inbox.port}/secret-path"}
        monkeypatch.setenv("AIRFLOW_CONN_HOOK", json.dumps(connection))
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.com/air/")
        yield inbox


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv("AIRFLOW__ROLLBACK_BUDGET__SQL_ALCHEMY_CONN", url)
    ledger = Ledger(url)
    ledger.migrate()
    ledger.rollouts.open(KEY, make_spec(), NOON)
    return ledger


def message(spec: RolloutSpec, event: Event = Event.BREACH) -> Notification:
    return Notification(event, f"{event.value} 1", KEY, spec, "p95 was 31 % above", NOON)


def notify_all(
    *notifiers: Notify, event: Event = Event.BREACH, timeout_s: float = 20, **spec: Any
) -> list[str]:
    rollout = make_spec(notify=notifiers, **spec)
    return send(message(rollout, event), {}, LOG, timedelta(seconds=timeout_s))


def test_a_message_says_what_and_until_when_and_links_to_the_run(inbox: Inbox, kept: Ledger) -> None:
    assert notify_all(HTTP) == []
    [posted] = inbox.posted
    assert posted["event"] == "breach"
    assert posted["text"].splitlines() == [
        "model-v42 (support-bot): budget breached",
        "p95 was 31 % above",
        "Deadline: 2026-03-01 12:00:00 UTC",
        "https://example.com/air/dags/rollout_model_v42/runs/manual__2026-03-01",
    ]


def test_a_retry_sends_nothing_twice_and_only_what_was_wanted_is_sent(inbox: Inbox, kept: Ledger) -> None:
    promoted_only = HTTP.model_copy(update={"events": (Event.PROMOTED,)})
    for _ in range(3):
        assert notify_all(HTTP, promoted_only) == []
    assert notify_all(HTTP, promoted_only, event=Event.PROMOTED) == []
    assert inbox.events() == ["breach", "promoted", "promoted"]
    assert {one.notifier for one in kept.notifications.of(KEY)} == {"1 http", "2 http"}


def test_one_that_failed_is_notified_again_and_the_others_are_not(inbox: Inbox, kept: Ledger) -> None:
    own = Notify(notifier=f"{__name__}.KeptNotifier", args={"number": "112"})
    KeptNotifier.kept.clear()
    inbox.status = 503
    [missed] = notify_all(HTTP, own)
    assert missed.startswith("1 http: ")
    assert "secret-path" not in missed
    inbox.status = 200
    assert notify_all(HTTP, own) == []
    assert (inbox.events(), len(KeptNotifier.kept)) == (["breach"], 1)


def test_an_address_that_is_a_secret_stays_one(
    kept: Ledger, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {"conn_type": "http", "host": f"http://127.0.0.1:{free_port}/services/s3cret"}
    monkeypatch.setenv("AIRFLOW_CONN_HOOK", json.dumps(connection))
    [missed] = notify_all(HTTP)
    assert "ConnectionError" in missed
    assert "s3cret" not in missed
    assert "s3cret" not in str(kept.notifications.of(KEY))


def test_a_notifier_that_hangs_holds_no_other_up(inbox: Inbox, kept: Ledger) -> None:
    inbox.hold = threading.Event()
    KeptNotifier.kept.clear()
    began = time.monotonic()
    missed = notify_all(
        HTTP, Notify(notifier=f"{__name__}.KeptNotifier", args={"number": "1"}), timeout_s=0.5
    )
    assert time.monotonic() - began < 5
    assert missed == ["1 http: no answer in time"]
    assert len(KeptNotifier.kept) == 1


def test_without_the_ledger_users_are_notified_all_the_same(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW__ROLLBACK_BUDGET__SQL_ALCHEMY_CONN", f"sqlite:///{tmp_path / 'none.db'}")
    assert notify_all(HTTP) == []
    assert inbox.events() == ["breach"]


def test_names_and_arguments_are_data_and_never_templates(inbox: Inbox, kept: Ledger) -> None:
    KeptNotifier.kept.clear()
    own = Notify(notifier=f"{__name__}.KeptNotifier", args={"number": "{{ 7 * 6 }}"})
    assert notify_all(HTTP, own, release=HOSTILE) == []
    assert inbox.posted[0]["release"] == HOSTILE
    assert KeptNotifier.kept[0].startswith("{{ 7 * 6 }}: " + HOSTILE)


def test_mail_goes_through_the_smtp_provider_with_everything_escaped(
    kept: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_mail_server() as mailbox:
        monkeypatch.setenv(
            "AIRFLOW_CONN_MAIL",
            f"smtp://127.0.0.1:{mailbox.port}/?disable_ssl=true&disable_tls=true&from_email=airflow%40example.com",
        )
        mail = Notify(notifier="email", conn_id="mail", args={"to": ["oncall@example.com"]})
        assert notify_all(mail, release=HOSTILE) == []
    [got] = mailbox.mails
    assert got["To"] == "oncall@example.com"
    [part] = [part for part in got.walk() if part.get_content_type() == "text/html"]
    body = part.get_payload(decode=True)
    assert isinstance(body, bytes)
    assert "{{ conf.get" in body.decode()
    assert "&lt;!channel&gt; &lt;/b&gt; &amp; 100 %" in body.decode()


def test_preflight_names_what_could_never_be_sent(inbox: Inbox) -> None:
    spec = make_spec(
        notify=(
            HTTP,
            Notify(notifier="http", conn_id="nowhere"),
            Notify(notifier="pagerduty", conn_id="hook"),
            Notify(notifier="json.JSONDecoder"),
            Notify(notifier=f"{__name__}.MuteNotifier"),
            Notify(notifier=f"{__name__}.KeptNotifier"),
        )
    )
    problems = notify_problems(spec)
    assert [problem.split(":")[0] for problem in problems] == [
        "`notify` 2 (http)",
        "`notify` 3 (pagerduty)",
        "`notify` 4 (json.JSONDecoder)",
        f"`notify` 5 ({__name__}.MuteNotifier)",
        f"`notify` 6 ({__name__}.KeptNotifier)",
    ]
    for problem, says in zip(
        problems, ["nowhere", "pip install", "no Airflow notifier", "takes no message", "number"], strict=True
    ):
        assert says in problem
    assert inbox.posted == []


def test_a_card_for_teams_holds_plain_text() -> None:
    body = TeamsNotifier(http_conn_id="hook", text="**v1** [x](http://x)").body()
    [block] = body["attachments"][0]["content"]["body"]
    assert block == {
        "type": "RichTextBlock",
        "inlines": [{"type": "TextRun", "text": "**v1** [x](http://x)"}],
    }


def test_a_message_about_a_rollout_that_the_ledger_does_not_know_is_sent_all_the_same(
    inbox: Inbox, kept: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    rollout = make_spec(notify=(HTTP,))
    unknown = Notification(
        Event.BREACH, "breach 1", RolloutKey("rollout", "of another ledger"), rollout, "p95 was above", NOON
    )
    assert send(unknown, {}, LOG) == []
    assert inbox.events() == ["breach"]
    assert "the ledger refuses" in caplog.text
