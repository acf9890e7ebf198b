"""Rolling a rollout back from where the verdict is known: a trigger, a task, a process beside Airflow."""
