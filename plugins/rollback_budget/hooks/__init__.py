"""From Airflow connections to metric sources and traffic targets."""
