"""Example DAGs, to be copied: each is shown working by a test that parses it."""
