"""The faces of a run: what the terminal and the pages show. Every figure comes from `agent_preflight.figures`."""
