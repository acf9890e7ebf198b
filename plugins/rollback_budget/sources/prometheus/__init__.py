"""Samples from Prometheus and what speaks its API."""
