"""How an agent in a container without a network reaches the proxy and what its user allows."""
