"""The watch of a release: looks, folded into a verdict. No Airflow in it."""
