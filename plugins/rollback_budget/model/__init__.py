"""Frozen types of a rollout: what a budget file means."""
