"""The ledger as values: its rows, the commands it takes, and the one function that applies them."""
