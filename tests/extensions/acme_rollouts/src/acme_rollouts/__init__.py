"""What Acme plugs into Rollback Budget."""
