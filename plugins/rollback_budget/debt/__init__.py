"""Eval debt: every breach is owed until evaluation would have caught it."""
