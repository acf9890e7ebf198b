"""Eval cases: the failing requests of a breach, kept so that evaluation asks them again."""
