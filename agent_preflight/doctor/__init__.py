"""What this machine can do for a run, and why not more: found by trying, not by guessing."""
