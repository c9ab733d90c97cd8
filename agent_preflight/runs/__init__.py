"""What a run is on disk: its folder, plan, ledger, trials, results and final table."""
