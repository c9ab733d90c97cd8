"""Old name of the module that scripts import two helpers from; they live in `agent_preflight.artifacts`."""

from agent_preflight.artifacts import render_prompt, summarize_run

__all__ = ["render_prompt", "summarize_run"]
