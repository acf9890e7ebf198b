"""Samples from SQL databases."""
