"""What can go wrong, one small fault a file, each known by name."""

from openrouter_sim.calls.fault import Cut, Fault, Frame
from openrouter_sim.faults.registry import FAULTS, make_fault

__all__ = ["FAULTS", "Cut", "Fault", "Frame", "make_fault"]
