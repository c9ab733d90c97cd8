"""What a call can cost at most."""
