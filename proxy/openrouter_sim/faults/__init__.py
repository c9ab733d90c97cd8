"""What can go wrong, in six files by subject; each fault has a name that a scenario asks for."""

from openrouter_sim.faults.registry import FAULTS, make_fault

__all__ = ["FAULTS", "make_fault"]
