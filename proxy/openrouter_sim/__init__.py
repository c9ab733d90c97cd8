"""An offline OpenRouter for demos and tests: the same API, an exact bill of its own, and faults on request.

It imports neither of the other two packages, so its bill can contradict theirs.
"""

from openrouter_sim.base.tokens import Tokenizer
from openrouter_sim.billing.account import Bill, KeyBill, SimGeneration
from openrouter_sim.calls.scenario import Fault, FaultRule, Rule, Scenario, ToolCall
from openrouter_sim.faults import FAULTS, make_fault
from openrouter_sim.scenario_file import load_scenario
from openrouter_sim.simulator import ReceivedRequest, Simulator

__all__ = [
    "FAULTS",
    "Bill",
    "Fault",
    "FaultRule",
    "KeyBill",
    "ReceivedRequest",
    "Rule",
    "Scenario",
    "SimGeneration",
    "Simulator",
    "Tokenizer",
    "ToolCall",
    "load_scenario",
    "make_fault",
]
