"""The demo: a simulated LLM service, a real Airflow, and three rollouts that run for real."""
