"""What the terminal and the pages show of a run. Every figure comes from `agent_preflight.figures`."""
