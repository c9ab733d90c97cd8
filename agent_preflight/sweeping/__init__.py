"""Removes what dead runs left, on this machine and at OpenRouter. It is found by their folders and labels."""

from agent_preflight.sweeping.dead_runs import Leftover, SweepReport, SweepScope, sweep

__all__ = ["Leftover", "SweepReport", "SweepScope", "sweep"]
