"""Two helpers under the name that old scripts import them by."""

from agent_preflight.artifacts import render_prompt, summarize_run

__all__ = ["render_prompt", "summarize_run"]
