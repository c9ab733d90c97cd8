"""The sidecar: a reverse proxy that keeps each account within its limit."""
