"""The launch gate: a release gets no traffic while an eval debt is overdue or an eval case fails."""
