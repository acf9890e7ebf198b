"""Sensors: the watch of a release."""
