"""Four small agents that spend a budget in four ways. Standard library only.

Usage: agent.py {thrifty,greedy,parallel,idle} [--model ID]

thrifty   does a small task in a few calls and ends well below its budget.
greedy    sends ever longer context until a call is refused, then says so and ends.
parallel  fires 16 calls at once, again and again, until one is refused.
idle      makes two calls, then does nothing more until somebody ends it.

The agent's contract: OPENROUTER_BASE_URL, OPENROUTER_API_KEY and PREFLIGHT_MODEL (the model, unless --model names one) in the
environment, at most one line of JSON with the prompt on stdin, one JSON event a line on stdout, files into the working
directory.
"""

import argparse
import json
import os
import select
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

CALL_S_MAX = 120  # a call may wait its turn in the proxy before it is forwarded
CALLS_AT_ONCE = 16
CHAPTER = "The harbour was quiet, and the ledger lay open on the desk beside the lamp. " * 110
STEPS = (
    "Outline the answer in three points.",
    "Write the answer.",
    "Find one mistake in it.",
    "Write it once more, without.",
)
NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
PRINTING = threading.Lock()
ENVIRONMENT = os.environ  # noqa: TID251 - a program of its own; this is its edge


class RefusedError(Exception):
    """The call was not allowed: the budget is spent, or this call does not fit into what is left."""


class FailedError(Exception):
    """The call broke for another reason."""


@dataclass
class Answer:
    """What came back from one call."""

    text: str = ""
    usage: dict = field(default_factory=dict)
    available: str | None = None


Ask = Callable[..., Answer]


def emit(kind: str, **fields: object) -> None:
    with PRINTING:
        sys.stdout.write(json.dumps({"type": kind, **fields}) + "\n")
        sys.stdout.flush()


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def ask(model_id: str, messages: list, max_tokens: int, stream: bool = False) -> Answer:
    """Make one call at the base URL that the environment names; RefusedError or FailedError if there is no answer."""
    body = {"model": model_id, "messages": messages, "max_tokens": max_tokens, "stream": stream}
    headers = {"Authorization": f"Bearer {ENVIRONMENT['OPENROUTER_API_KEY']}", "Content-Type": "application/json"}
    url = ENVIRONMENT["OPENROUTER_BASE_URL"].rstrip("/") + "/chat/completions"
    try:
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        with NO_PROXY.open(request, timeout=CALL_S_MAX) as response:
            answer = read_stream(response) if stream else read_body(response)
            answer.available = response.headers.get("X-Budget-Available")
            return answer
    except urllib.error.HTTPError as error:
        raise failure(error.code, error.read(65536)) from None
    except (OSError, ValueError) as error:
        raise FailedError(f"{type(error).__name__}: {error}") from None


def failure(status: int, body: bytes) -> Exception:
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = "no message"
    kind = RefusedError if status in (401, 402, 403) else FailedError
    return kind(f"{status} {message}")


def read_body(response: object) -> Answer:
    reply = json.load(response)
    if "error" in reply:
        raise failure(reply["error"].get("code", 0), json.dumps(reply).encode())
    return Answer(reply["choices"][0]["message"].get("content") or "", reply.get("usage") or {})


def read_stream(response: object) -> Answer:
    answer = Answer()
    for chunk in chunks(response):
        if "error" in chunk:
            raise failure(chunk["error"].get("code", 0), json.dumps(chunk).encode())
        answer.usage = chunk.get("usage") or answer.usage
        for choice in chunk.get("choices") or ():
            answer.text += choice.get("delta", {}).get("content") or ""
    return answer


def chunks(response: object) -> Iterator[dict]:
    for line in response:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        yield json.loads(data)
    raise FailedError("the stream ended before it was done")


def show(answer: Answer, turn: int) -> None:
    figures = {"usage": answer.usage, "available_usd": answer.available}
    emit("message_end", role="assistant", turn=turn, content=answer.text[:200], **figures)


def message(text: str, role: str = "user") -> dict:
    return {"role": role, "content": text}


def end(status: str, text: str, output_file: str | None = None) -> None:
    emit("agent_end", status=status, message=text, output_file=output_file)


def write_file(name: str, text: str) -> str | None:
    """Write into the working directory; None if that is not allowed."""
    emit("tool_execution_start", toolName="write_file", timestamp=now())
    try:
        Path(name).write_text(text, encoding="utf-8")
    except OSError as error:
        emit("tool_execution_end", toolName="write_file", success=False, result=str(error))
        return None
    emit("tool_execution_end", toolName="write_file", success=True, result=f"{len(text)} characters")
    return name


def thrifty(ask: Ask, task: str) -> None:
    messages, turn = [message(task)], 0
    for turn, step in enumerate(STEPS, 1):
        messages.append(message(step))
        answer = ask(messages, max_tokens=160)
        messages.append(message(answer.text, "assistant"))
        show(answer, turn)
    end("done", f"finished in {turn} calls", write_file("answer.txt", answer.text))


def greedy(ask: Ask, task: str) -> None:
    messages, turn = [message(task)], 0
    try:
        while True:
            turn += 1
            emit("tool_execution_start", toolName="read_chapter", timestamp=now())
            messages.append(message(f"Chapter {turn}. {CHAPTER}"))
            emit("tool_execution_end", toolName="read_chapter", success=True, result=f"{len(CHAPTER)} characters")
            answer = ask(messages, max_tokens=120, stream=True)
            messages.append(message(answer.text, "assistant"))
            show(answer, turn)
    except RefusedError as refusal:
        emit("error", error_type="refused", message=str(refusal))
        end("budget_spent", f"refused at call {turn}: {refusal}")


def parallel(ask: Ask, task: str) -> None:
    refusals: list[str] = []
    turn = 0
    with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
        while not refusals:
            turn += 1
            emit("tool_execution_start", toolName="fan_out", timestamp=now())
            parts = [f"{task} Part {turn}.{part}. {CHAPTER[:2000]}" for part in range(CALLS_AT_ONCE)]
            outcomes = pool.map(partial(one_of_many, ask, turn), parts)
            refusals = [refusal for refusal in outcomes if refusal is not None]
            emit("tool_execution_end", toolName="fan_out", success=not refusals, result=f"{len(refusals)} refused")
    emit("error", error_type="refused", message=refusals[0])
    end("budget_spent", f"refused in round {turn}: {refusals[0]}")


def one_of_many(ask: Ask, turn: int, question: str) -> str | None:
    """Ask one question; the text of the refusal if there was one."""
    try:
        show(ask([message(question)], max_tokens=200, stream=turn % 2 == 1), turn)
    except RefusedError as refusal:
        return str(refusal)
    return None


def idle(ask: Ask, task: str) -> None:
    for turn in (1, 2):
        show(ask([message(f"{task} Step {turn}.")], max_tokens=80, stream=True), turn)
    while True:
        time.sleep(3600)


def read_task() -> str:
    """The prompt from stdin, which may be closed, or stay open and never send one."""
    if select.select([sys.stdin], [], [], 0.3)[0]:
        try:
            return str(json.loads(sys.stdin.readline())["message"])
        except (ValueError, KeyError, TypeError):
            pass
    return "Explain in a few lines why a ledger has two sides."


def main() -> int:
    modes = {mode.__name__: mode for mode in (thrifty, greedy, parallel, idle)}
    parser = argparse.ArgumentParser(description="Spend a budget in one of four ways.")
    parser.add_argument("mode", choices=sorted(modes))
    parser.add_argument("--model", default=ENVIRONMENT.get("PREFLIGHT_MODEL") or "anthropic/claude-sonnet-4.5")
    options = parser.parse_args()
    task = read_task()
    emit("agent_start", model_id=options.model, mode=options.mode)
    try:
        modes[options.mode](partial(ask, options.model), task)
    except (RefusedError, FailedError) as error:
        emit("error", error_type=type(error).__name__, message=str(error))
        end("failed", str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
