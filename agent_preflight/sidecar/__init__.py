"""Starts a run's proxy, restarts it when it dies, and talks to it over its control socket."""
