"""Operators: the tasks of a rollout and of eval debt."""
