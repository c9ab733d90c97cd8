"""One agent's call from its request to its posted cost."""
