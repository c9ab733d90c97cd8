"""Scenarios from files."""

from pathlib import Path

import pytest

from openrouter_sim import Rule, Scenario, Tokenizer, ToolCall, load_scenario
from openrouter_sim.calls.scenario import FaultRule
from openrouter_sim.faults.answers import ErrorMid

EXAMPLE = """
tokens_per_s = 50.0
usage_chunk = "empty"
tokenizer = "nfc"

[[replies]]
contains = "plan"
tokens = [10, 20]
tool_calls = [{ name = "run", arguments = "{}" }]

[[faults]]
fault = "error_mid"
probability = 0.1
api = "chat"
with = { after = 2, done = true }
"""


def test_a_file_says_the_same_as_python(tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(EXAMPLE)
    assert load_scenario(file) == Scenario(
        replies=(Rule(contains="plan", tokens=(10, 20), tool_calls=(ToolCall("run"),)),),
        faults=(FaultRule(ErrorMid(after=2, done=True), probability=0.1, api="chat"),),
        tokens_per_s=50.0,
        usage_chunk="empty",
        tokenizer=Tokenizer.NFC,
    )


@pytest.mark.parametrize(
    "text",
    [
        "pace = 3",
        "[[replies]]\nwords = 3",
        "[[faults]]\nfault = 'nope'",
        "[[faults]]\nfault = 'reset'\nwith = { x = 1 }",
        "tokenizer = 'x'",
        "a b",
    ],
)
def test_what_is_not_understood_is_an_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(text)
    with pytest.raises(ValueError):
        load_scenario(file)
