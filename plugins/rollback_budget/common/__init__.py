"""What hooks, triggers, sensors and operators share: configuration, XCom contracts, the ledger."""
