"""What happened, once: rollouts, breaches, decisions, debts and tickets in a database of their own."""
