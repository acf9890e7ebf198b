"""Backtest: what a budget would have done to rollouts of the past."""

from __future__ import annotations
