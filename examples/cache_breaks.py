"""What breaks a prompt cache, one change at a time: pairs of calls through the proxy, then what the proxy says of them.

    python examples/cache_breaks.py [MODEL]

Without OPENROUTER_BASE_URL it starts an offline OpenRouter; with a real one it spends a few cents at most, of a budget of $0.50.
"""

import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from offline import openrouter, until_ready

RULES = "Keep to the rules of the house, every single one of them, whatever you are asked to do. " * 250
READ = {
    "type": "function",
    "function": {"name": "read", "description": "Reads a file.", "parameters": {"type": "object"}},
}
LIST = {
    "type": "function",
    "function": {"name": "list", "description": "Lists files.", "parameters": {"type": "object"}},
}

Change = Callable[[dict], object]
CHANGES: dict[str, Change] = {
    "nothing; it grew": lambda body: None,
    "a tool was added": lambda body: body["tools"].append(LIST),
    "the time in the system text": lambda body: rewrite(body, 0, f"It is 12:01. {RULES}"),
    "the first question, rewritten": lambda body: rewrite(body, 1, "Question B. " + RULES[:4000]),
    "an old answer, shortened": lambda body: rewrite(body, 2, "A short answer."),
    "how the reply must look": lambda body: body.update(response_format={"type": "json_object"}),
}


def conversation(model: str, name: str) -> dict:
    """A prompt of three long messages, marked for the families that cache what is marked."""
    block = {
        "type": "text",
        "text": f"Case: {name}. Question A. {RULES[:4000]}",
        "cache_control": {"type": "ephemeral"},
    }
    messages = [
        {"role": "system", "content": RULES},
        {"role": "user", "content": [block] if model.startswith("anthropic/") else block["text"]},
        {"role": "assistant", "content": f"A long answer, {name}. {RULES[:4000]}"},
        {"role": "user", "content": "Go on."},
    ]
    return {"model": model, "messages": messages, "tools": [READ], "max_tokens": 16}


def rewrite(body: dict, position: int, text: str) -> None:
    message = body["messages"][position]
    if isinstance(message["content"], list):
        message["content"][0]["text"] = text
    else:
        message["content"] = text


@contextmanager
def proxy(upstream: str, key: str, data: Path) -> Iterator[tuple[str, str]]:
    """A stand-alone proxy with a budget; its base URL and token."""
    ready = data / "ready.json"
    command = [sys.executable, "-m", "agent_preflight", "proxy", "--listen", "127.0.0.1:0", "--upstream", upstream]
    command += ["--budget", "0.50", "--data", str(data), "--ready-file", str(ready)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env={**os.environ, "OPENROUTER_API_KEY": key}, **quiet) as process:
        try:
            told = until_ready(ready, process)
            yield told["base_url"], told["api_key"]
        finally:
            process.terminate()


def ask(url: str, token: str, body: dict) -> dict:
    headers = {"Authorization": f"Bearer {token}"}
    return (
        httpx.post(f"{url}/chat/completions", json=body, headers=headers, timeout=120)
        .raise_for_status()
        .json()["usage"]
    )


def main(model: str) -> None:
    here = Path(__file__).resolve().parent
    with tempfile.TemporaryDirectory() as folder, openrouter(here / "underwriting" / "scenario.toml") as upstream:
        data = Path(folder) / "proxy-data"
        data.mkdir()
        with proxy(upstream.base_url, upstream.key, data) as (url, token):
            for name, change in CHANGES.items():
                body = conversation(model, name)
                ask(url, token, body)
                ask(url, token, body)
                changed = copy.deepcopy(body)
                changed["messages"] += [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "And?"}]
                change(changed)
                usage = ask(url, token, changed)
                time.sleep(0.3)  # the line follows its call within 0.1 s
                line = json.loads((data / "costs.jsonl").read_text().splitlines()[-1])
                cached = (
                    f"{usage['prompt_tokens_details']['cached_tokens']:>6,} of {usage['prompt_tokens']:,} tokens read"
                )
                print(f"{name:<32}{cached:<30}{line['cache_miss'] or ''}")
        print(flush=True)
        subprocess.run([sys.executable, "-m", "agent_preflight", "cache-report", "--data", str(data)], check=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "openai/gpt-4.1-nano")
