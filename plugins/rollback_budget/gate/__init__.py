"""The launch gate: no release gets traffic while what once went wrong may go wrong again."""
