"""Tickets: where people find an eval debt, each filed exactly once."""
