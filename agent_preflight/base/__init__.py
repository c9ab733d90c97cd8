"""Settings, console, tables and dollars: what every folder of the host half may use."""
