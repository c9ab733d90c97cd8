"""What dead runs left, on this machine and at OpenRouter: found by their folders and labels, removed, and seen to be gone."""

from agent_preflight.sweeping.dead_runs import sweep
from agent_preflight.sweeping.report import Leftover, SweepReport, SweepScope

__all__ = ["Leftover", "SweepReport", "SweepScope", "sweep"]
