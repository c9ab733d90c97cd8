"""An offline OpenRouter for demos and tests: same wire, own exact books, faults on demand.

It imports neither of the other packages, so that it can contradict both.
"""

from openrouter_sim.base.tokens import Tokenizer
from openrouter_sim.billing.bill import Bill, KeyBill, SimGeneration
from openrouter_sim.calls.scenario import FaultRule, Rule, Scenario, ToolCall
from openrouter_sim.faults import FAULTS, Fault, make_fault
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
