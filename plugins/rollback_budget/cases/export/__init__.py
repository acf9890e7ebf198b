"""Exports of approved cases for evaluation tools; content is data in every one of them, never a template."""
