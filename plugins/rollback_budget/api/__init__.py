"""What Airflow's API server serves for Rollback Budget, behind Airflow's own authentication."""
