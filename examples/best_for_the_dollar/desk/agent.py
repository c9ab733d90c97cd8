"""Sorts sixteen letters into trays: for each, a model looks the customer up and then files the letter. Standard library only.

Usage: agent.py ALIAS

One conversation that grows, a long handbook at its top and a mark for caches at its end, as agents have it. One JSON event a
line. What is filed is written to trays.json after each letter, so a trial that is ended early keeps what it did.

For simulated models, which know nothing, RIGHT_TRAYS holds the right answers as JSON. Then the tray is drawn: it is the right
one as often as `SKILL` says.
"""

import json
import os
import random
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

LETTERS = json.loads(Path(__file__).with_name("letters.json").read_text("utf-8"))
TRAYS = ("billing", "fault", "leaving", "praise")
HANDBOOK = (
    "You sort letters. Look the customer up, then file the letter into the tray that its matter belongs to.\n"
    + (
        "\n".join(
            f"Rule {number}: a letter that names matter {number} goes to the tray of what the customer wants done, not of what the "
            "customer complains about; where two are wanted, to the tray of the one that cannot wait."
            for number in range(1, 111)
        )
    )
)
TURNS_MAX = 4
TRIES_MAX = 4
ANSWER_TOKENS_MAX = 400
SEED = 43
SKILL = {"nano": 0.74, "deepseek": 0.84, "gemini": 0.8, "haiku": 0.93, "sonnet": 0.97}
STOPS = ("gemini-3", "L07")
"""A drawn trial that hangs, and the letter at which it does."""

RIGHT_TRAYS = json.loads(os.environ.get("RIGHT_TRAYS", "null"))
NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def tool(name: str, description: str, **properties: object) -> dict:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TOOLS = [
    tool("look_up_customer", "Returns what is known of a customer.", customer={"type": "string"}),
    tool("file_letter", "Files the letter at hand.", tray={"type": "string", "enum": list(TRAYS)}),
]


def emit(kind: str, **fields: object) -> None:
    print(json.dumps({"type": kind, **fields}), flush=True)


class Refused(Exception):  # noqa: N818 - an outcome, not an error
    """The budget is spent."""


def marked(messages: list[dict]) -> list[dict]:
    """The messages, with the first and the last marked as ends of what a cache may keep."""
    ends = (0, len(messages) - 1)
    return [
        {**each, "content": [{"type": "text", "text": each["content"], "cache_control": {"type": "ephemeral"}}]}
        if n in ends
        else each
        for n, each in enumerate(messages)
    ]


def ask(messages: list[dict]) -> dict:
    """The model's next message. A provider's fault is tried again, a refusal is the end."""
    body = {"model": os.environ["PREFLIGHT_MODEL"], "messages": marked(messages), "tools": TOOLS}
    content = json.dumps({**body, "max_tokens": ANSWER_TOKENS_MAX}).encode()
    headers = {"Authorization": "Bearer " + os.environ["OPENROUTER_API_KEY"], "Content-Type": "application/json"}
    for tried in range(TRIES_MAX):
        request = urllib.request.Request(os.environ["OPENROUTER_BASE_URL"] + "/chat/completions", content, headers)
        try:
            with NO_PROXY.open(request, timeout=120) as answer:
                return json.load(answer)["choices"][0]["message"]
        except urllib.error.HTTPError as error:
            if error.code in (401, 402, 403):
                raise Refused(json.load(error)["error"]["message"]) from None
            if error.code < 500 or tried == TRIES_MAX - 1:
                raise
        time.sleep(0.5 * 2**tried)
    raise AssertionError


def drawn(alias: str, letter: str) -> str:
    """A tray by a throw of dice that is the same in each run."""
    dice = random.Random(f"{SEED} {os.environ['PREFLIGHT_MODEL']} {alias} {letter}")
    is_right = dice.random() < SKILL.get(alias.partition("-")[0], 0.5)
    return RIGHT_TRAYS[letter] if is_right else dice.choice([tray for tray in TRAYS if tray != RIGHT_TRAYS[letter]])


class Desk:
    """What the tools work on: the letter at hand, and where the letters went."""

    def __init__(self, alias: str) -> None:
        self.alias, self.letter = alias, ""
        self.trays: dict[str, str] = {}

    def use(self, name: str, arguments: dict) -> dict:
        """Carry out what the model asks for."""
        if name == "look_up_customer":
            return {"customer": LETTERS[self.letter]["customer"], "since": 2019, "contracts": 1}
        tray = drawn(self.alias, self.letter) if RIGHT_TRAYS else arguments.get("tray")
        if name != "file_letter" or tray not in TRAYS:
            return {"error": "no such tool" if name != "file_letter" else f"the trays are {', '.join(TRAYS)}"}
        self.trays[self.letter] = tray
        Path("trays.json").write_text(json.dumps(self.trays))
        return {"filed": tray}


def sort(desk: Desk, letter: str, messages: list[dict]) -> None:
    """Have one letter filed, in a few turns at most."""
    desk.letter = letter
    messages.append({"role": "user", "content": f"Letter {letter}: {json.dumps(LETTERS[letter])}"})
    for _ in range(TURNS_MAX):
        message = ask(messages)
        messages.append({"role": "assistant", "content": message.get("content") or "", **calls_of(message)})
        for call in message.get("tool_calls") or ():
            name = call["function"]["name"]
            emit("tool_execution_start", toolName=name)
            result = desk.use(name, json.loads(call["function"]["arguments"] or "{}"))
            emit("tool_execution_end", toolName=name, success="error" not in result, result=json.dumps(result))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": json.dumps(result)})
        if letter in desk.trays or not message.get("tool_calls"):
            return


def calls_of(message: dict) -> dict:
    return {"tool_calls": message["tool_calls"]} if message.get("tool_calls") else {}


def main(alias: str) -> None:
    emit("agent_start", model_id=os.environ["PREFLIGHT_MODEL"])
    desk, messages = Desk(alias), [{"role": "system", "content": HANDBOOK}]
    try:
        for letter in LETTERS:
            if RIGHT_TRAYS and (alias, letter) == STOPS:
                time.sleep(3600)
            sort(desk, letter, messages)
    except Refused as refusal:
        emit("agent_end", status="budget_spent", message=str(refusal))
    else:
        emit("agent_end", status="done", message=f"{len(desk.trays)} letters filed")


if __name__ == "__main__":
    main(sys.argv[1])
