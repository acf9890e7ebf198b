"""Alembic's entry: it executes this file for every command."""

from __future__ import annotations

from rollback_budget.ledger.migrate import run_environment

run_environment()
