"""Sending notifications through Airflow's notifiers: each once, and no task waits for one that hangs."""

from __future__ import annotations

import html
import inspect
import logging
import pkgutil
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from rollback_budget.clock import utc_now
from rollback_budget.common.config import open_ledger
from rollback_budget.exceptions import LedgerError, LedgerRuleError, RollbackBudgetError
from rollback_budget.model.notify import Notify, notifier_entry

if TYPE_CHECKING:
    from airflow.sdk import BaseNotifier, Context

    from rollback_budget.clock import Log
    from rollback_budget.ledger.ledger import Ledger
    from rollback_budget.model.spec import RolloutSpec
    from rollback_budget.notifications.notification import Notification

_ADDRESS = re.compile(r"\w+://\S+|(?<=url: )\S+|(?<!\w)/\S+")

#: How long all notifiers together may take for one message.
SEND_TIMEOUT = timedelta(seconds=30)


def send(message: Notification, context: Context, log: Log, timeout: timedelta = SEND_TIMEOUT) -> list[str]:
    """Send ``message`` through every notifier that subscribes to it and has not sent it yet; never raises.

    Without the ledger it is sent all the same, and perhaps again by a retry.

    :return: the notifiers that were not reached, each with the reason.
    """
    ledger: Ledger | None = open_ledger()
    deliveries = []
    for number, notify in enumerate(message.spec.notify, 1):
        if message.event not in notify.events:
            continue
        name = f"{number} {notify.notifier}"
        if ledger is not None:
            try:
                if not ledger.notifications.claim(message.key, message.occasion, name, utc_now()):
                    continue
            except LedgerError as error:
                _log_unrecorded(log, "messages are sent without a record of them", error)
                ledger = None
        deliveries.append(_Delivery(name, partial(_deliver, notify, message, context)))
    give_up = time.monotonic() + timeout.total_seconds()
    for delivery in deliveries:
        delivery.wait(give_up - time.monotonic())
    for delivery in deliveries:
        log.info("%s to %s: %s", message.occasion, delivery.name, delivery.error or "sent")
    _settle(ledger, message, deliveries, log)
    return [f"{delivery.name}: {delivery.error}" for delivery in deliveries if delivery.error]


def notify_problems(spec: RolloutSpec) -> list[str]:
    """Return why messages of this rollout would not go out, as far as nothing has to be sent to know."""
    from airflow.sdk import BaseHook

    problems = []
    for number, notify in enumerate(spec.notify, 1):
        try:
            make_notifier(notify, dict.fromkeys(_OFFERED, "") | {"details": {}})
            if notify.conn_id is not None:
                BaseHook.get_connection(notify.conn_id)
        except Exception as error:
            problems.append(f"`notify` {number} ({notify.notifier}): {error}")
    return problems


_OFFERED = ("text", "message", "body", "description", "subject", "title", "summary", "html_content")


def make_notifier(notify: Notify, offers: dict[str, Any]) -> BaseNotifier:
    """Return the notifier, given those of ``offers`` that its constructor names and ``args`` does not.

    :raises RollbackBudgetError: it cannot be made.
    """
    from airflow.sdk import BaseNotifier

    known = notifier_entry(notify.notifier)
    path = notify.notifier if known is None else known.path
    try:
        found = pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        hint = "" if known is None or known.package is None else f"; pip install {known.package}"
        raise RollbackBudgetError(f"{path} cannot be imported: {error}{hint}") from error
    if not (isinstance(found, type) and issubclass(found, BaseNotifier)):
        raise RollbackBudgetError(f"{path} is no Airflow notifier (a subclass of airflow.sdk.BaseNotifier)")
    args = dict(notify.args)
    if known is not None and notify.conn_id is not None:
        args[known.conn_argument] = notify.conn_id
    named = inspect.signature(found.__init__).parameters
    ours = {name: value for name, value in offers.items() if name in named and name not in args}
    if not set(_OFFERED) & (ours.keys() | args.keys()):
        raise RollbackBudgetError(
            f"{path} takes no message: its constructor names none of {', '.join(_OFFERED)}"
        )
    try:
        return found(**args, **ours)
    except TypeError as error:
        raise RollbackBudgetError(f"{path} cannot be made with these `args`: {error}") from error


def _offers(notify: Notify, message: Notification) -> dict[str, Any]:
    text = message.text
    if notify.notifier.startswith("slack"):
        # What Slack would take for a link or a mention.
        text = html.escape(text, quote=False)
    plain = dict.fromkeys(("text", "message", "body", "description"), text)
    return {
        **plain,
        **dict.fromkeys(("subject", "title"), message.subject),
        "summary": f"{message.subject}: {message.sentence}"[:1024],
        "html_content": html.escape(message.text).replace("\n", "<br>\n"),
        "severity": message.severity,
        "source": f"{message.spec.service}/{message.spec.release}",
        "dedup_key": f"{message.key}"[:255],
        "details": message.details,
        "custom_details": message.details,
    }


def _deliver(notify: Notify, message: Notification, context: Context) -> None:
    # Not called as a template: release names and sentences are data, and so is what the file says.
    make_notifier(notify, _offers(notify, message)).notify(context)


@dataclass
class _Delivery:
    """One notifier at work, in a thread that no task has to wait for."""

    name: str
    deliver: Callable[[], None]
    error: str | None = "no answer in time"
    _done: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        threading.Thread(target=self._run, name=f"notify {self.name}", daemon=True).start()

    def wait(self, seconds: float) -> None:
        self._done.wait(max(seconds, 0))

    def _run(self) -> None:
        try:
            self.deliver()
            self.error = None
        except BaseException as error:
            self.error = _without_addresses(error)
        finally:
            self._done.set()


def _without_addresses(error: BaseException) -> str:
    """Say what went wrong without any URL: that of a webhook is a secret."""
    said = _ADDRESS.sub("(address)", str(error))
    return f"{type(error).__name__}: {said}"[:300]


def _settle(ledger: Ledger | None, message: Notification, deliveries: list[_Delivery], log: Log) -> None:
    if ledger is None:
        return
    try:
        for delivery in deliveries:
            ledger.notifications.settle(
                message.key, message.occasion, delivery.name, utc_now(), delivery.error
            )
    except LedgerError as error:
        _log_unrecorded(log, "the messages are sent, and may be sent again", error)


def _log_unrecorded(log: Log, consequence: str, error: LedgerError) -> None:
    """Say why there is no record: a message is never held back for it, whatever the reason."""
    if isinstance(error, LedgerRuleError):
        logging.getLogger(__name__).error(
            "the ledger refuses, which no retry changes; %s: %s", consequence, error
        )
    else:
        log.warning("%s: %s", consequence, error)
