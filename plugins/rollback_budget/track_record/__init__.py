"""Track record: what the budgets of past rollouts were worth, from what the ledger holds of them."""
