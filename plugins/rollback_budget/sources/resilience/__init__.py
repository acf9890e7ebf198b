"""Retries, circuit breakers and coalescing for every source."""
