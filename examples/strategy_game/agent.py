"""Improves a bot for the game beside this file: a model writes it, tests it, writes it anew. Standard library only.

It looks at its budget before each turn, tells the model, and stops by itself when little is left. One JSON event a line.
"""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

GAME = Path(__file__).with_name("game.py")
BOT = Path("bot.py")
TURNS_MAX = 40
TEST_S_MAX = 10
STOP_BELOW = 0.10  # of the budget: what is left then is for nothing but good words
RULES = f"""You write a bot for this game and improve it until it wins more points. Write a whole file with the tool
`write_bot`, then learn what it is worth with the tool `run_test`. Say DONE when you cannot make it better. This is the game:

{GAME.read_text()}
"""


def tool(name: str, description: str, **properties: object) -> dict:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TOOLS = [
    tool("write_bot", "Replaces the bot's file.", code={"type": "string"}),
    tool("run_test", "Plays the bot against all opponents and returns its points."),
]


def emit(kind: str, **fields: object) -> None:
    print(json.dumps({"type": kind, **fields}), flush=True)


def budget_line() -> str:
    """The first line of budget.txt: what is left, as the proxy wrote it last."""
    return Path(os.environ["PREFLIGHT_BUDGET_FILE"]).read_text().splitlines()[0]


def share_left() -> float:
    """The share of the budget that is left; asking costs nothing."""
    request = urllib.request.Request(os.environ["OPENROUTER_BASE_URL"] + "/key", headers=authorization())
    with urllib.request.urlopen(request, timeout=30) as answer:
        told = json.load(answer)["data"]
    return told["limit_remaining"] / told["limit"]


def authorization() -> dict[str, str]:
    return {"Authorization": "Bearer " + os.environ["OPENROUTER_API_KEY"], "Content-Type": "application/json"}


class Refused(Exception):  # noqa: N818 - an outcome, not an error
    """The budget is spent."""


def ask(messages: list[dict]) -> dict:
    body = {"model": os.environ["PREFLIGHT_MODEL"], "messages": messages, "tools": TOOLS, "max_tokens": 1500}
    url = os.environ["OPENROUTER_BASE_URL"] + "/chat/completions"
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, json.dumps(body).encode(), authorization()), timeout=300
        ) as answer:
            message = json.load(answer)["choices"][0]["message"]
    except urllib.error.HTTPError as error:
        if error.code in (401, 402, 403):
            raise Refused(json.load(error)["error"]["message"]) from None
        raise
    emit("message_end", role="assistant", content=message.get("content") or "")
    return message


def use(name: str, arguments: dict) -> dict:
    """Carry out what the model asks for."""
    if name == "write_bot":
        BOT.write_text(str(arguments.get("code", "")))
        return {"written": len(str(arguments.get("code", "")))}
    if name == "run_test" and BOT.exists():
        # A bot is a program that a model wrote: it gets a process of its own, without our environment, for a few seconds.
        command = [sys.executable, "-I", str(GAME), str(BOT)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=TEST_S_MAX, env={}, check=False)
        except subprocess.TimeoutExpired:
            return {"error": f"the bot did not end within {TEST_S_MAX} s"}
        return json.loads(done.stdout)
    return {"error": "there is no bot yet" if name == "run_test" else "no such tool"}


def work() -> int:
    """Write and test until the model is done or money is short; the best score."""
    messages = [{"role": "system", "content": RULES}, {"role": "user", "content": f"Begin. {budget_line()}"}]
    best = 0
    for _ in range(TURNS_MAX):
        message = ask(messages)
        messages.append(message)
        for call in message.get("tool_calls") or ():
            name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"] or "{}")
            emit("tool_execution_start", toolName=name)
            result = use(name, arguments)
            emit("tool_execution_end", toolName=name, success="error" not in result, result=json.dumps(result))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": json.dumps(result)})
            best = max(best, result.get("score", 0))
        if "DONE" in (message.get("content") or "") or share_left() < STOP_BELOW:
            break
        # The budget comes last: what stands before it stays the same, so caches can read it.
        messages.append({"role": "user", "content": f"Go on. {budget_line()}"})
    return best


if __name__ == "__main__":
    emit("agent_start", model_id=os.environ["PREFLIGHT_MODEL"])
    try:
        emit("agent_end", status="done", message=f"best score: {work()}")
    except Refused as refusal:
        emit("agent_end", status="budget_spent", message=str(refusal))
