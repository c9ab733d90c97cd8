"""Settings, clock, tasks, log and private files: what every folder of the proxy may use."""
