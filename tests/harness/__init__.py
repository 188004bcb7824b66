"""What the Python tests share: private servers, the programs under test, and the ledger that decides whether anything was lost."""
