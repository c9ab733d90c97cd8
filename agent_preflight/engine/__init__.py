"""The client of Docker's Engine API. It knows nothing of runs and trials; `agent_preflight.docker` makes these of it."""
