"""Operator extra links: buttons on a task's page."""
