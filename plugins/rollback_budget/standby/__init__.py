"""Standby: taking over the watch of rollouts whose own is lost, from a process outside Airflow."""
