"""Samples from any API that answers JSON."""
