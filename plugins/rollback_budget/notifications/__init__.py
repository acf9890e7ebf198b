"""Notifications and notifiers."""
