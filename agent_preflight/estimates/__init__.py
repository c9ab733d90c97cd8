"""How many calls a budget covers, before a run."""
