"""What a provider's prompt cache does with three pairs of calls. Works on any OpenRouter-shaped base URL, offline too."""

import os
import sys

import httpx

from agent_preflight import PromptBuilder

BASE_URL = os.environ["OPENROUTER_BASE_URL"]
KEY = os.environ["OPENROUTER_API_KEY"]
LONG = "The clerk writes each entry twice, once on either side, and the sums must agree. " * 400
SHORT = "The clerk writes each entry twice."


def ask(model: str, system: str, question: str) -> str:
    """Send one call whose system prompt is marked for caching; return what the cache read and wrote."""
    prompt = PromptBuilder(system, provider="auto")
    prompt.add_user("We begin.")
    prompt.add_assistant("Yes.")
    prompt.add_user(question)
    response = httpx.post(
        f"{BASE_URL}/chat/completions",
        json=prompt.build(model, max_tokens=16),
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=60,
    )
    usage = response.raise_for_status().json()["usage"]
    details = usage["prompt_tokens_details"]
    read, written = details["cached_tokens"], details.get("cache_write_tokens") or 0
    return f"{usage['prompt_tokens']:>6} tokens, {read:>6} read, {written:>6} written, ${usage['cost']:.7f}"


def main(model: str) -> None:
    pairs = {
        "same prefix": (LONG, LONG),
        "an early byte changed": ("Monday. " + LONG, "Tuesday. " + LONG),
        "below the minimum": (SHORT, SHORT),
    }
    for name, (first, second) in pairs.items():
        print(f"{name}\n  first   {ask(model, first, 'Say one.')}\n  second  {ask(model, second, 'Say two.')}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "anthropic/claude-sonnet-4.5")
