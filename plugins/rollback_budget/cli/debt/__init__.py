"""``rollback-budget debt``: commands about eval debts."""
