"""The host half of agent-preflight."""
