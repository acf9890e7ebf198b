"""The launch gate: what was breached once is asked for before every launch."""
