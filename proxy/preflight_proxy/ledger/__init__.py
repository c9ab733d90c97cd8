"""The ledger of a proxy: its SQLite file, its live state, and the files made from it."""
