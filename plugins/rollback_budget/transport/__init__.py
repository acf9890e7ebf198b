"""HTTP for sources, targets, tickets and notifications: one policy, one response, one error."""
