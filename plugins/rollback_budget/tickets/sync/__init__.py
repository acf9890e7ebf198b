"""Keeping each debt's ticket up to date, each thing once."""
