"""Acme's pager, which writes into a file."""

from __future__ import annotations

from rollback_budget.model.notify import NotifierEntry

PAGER = NotifierEntry("acme_rollouts.pager_notifier.PagerNotifier", "pager_conn_id", ("file",))
