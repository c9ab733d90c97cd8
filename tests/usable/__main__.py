"""Prints how much of a budget can be used: ``python -m tests.usable [--limit USD] [--model ID] [--session WORD]``.

``--bound proven``, ``--cache-bound billed`` and ``--counter realistic`` measure other promises and another tokenizer.
"""

from __future__ import annotations

import argparse
import asyncio
import logging

import structlog

from openrouter_sim import Tokenizer
from tests.usable.measure import Rules, usable
from tests.usable.sessions import SESSIONS

MODELS = ("anthropic/claude-sonnet-4.5", "openai/gpt-4.1-nano")
LIMITS_USD = ("5", "1", "0.25")
_ROW = "{:<28} {:>6}  {:<16} {:>8} {:>8} {:>7} {:>10} {:>8}"


def main() -> None:
    """Measure every combination that was asked for, one after another."""
    parser = argparse.ArgumentParser(prog="python -m tests.usable", description=__doc__)
    parser.add_argument("--limit", action="append", help="dollars; may be repeated")
    parser.add_argument("--model", action="append", help="a model's id; may be repeated")
    parser.add_argument("--session", default="", help="only sessions with this word in their name")
    parser.add_argument("--bound", choices=("measured", "proven"), default="measured")
    parser.add_argument("--cache-bound", choices=("write", "billed"), default="write")
    parser.add_argument("--counter", type=Tokenizer, default=Tokenizer.USUAL, help="how OpenRouter counts tokens")
    asked = parser.parse_args()
    rules = Rules(asked.bound, asked.cache_bound, asked.counter)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    _say(f"bound {rules.bound}, cache bound {rules.cache_bound}, counter {rules.counter.value}")
    _say(_ROW.format("model", "limit", "conversation", "at first", "at end", "calls", "cut short", "weighed"))
    for model in asked.model or MODELS:
        for limit_usd in asked.limit or LIMITS_USD:
            for session in SESSIONS:
                if asked.session in session.name:
                    found = asyncio.run(usable(session, model, limit_usd, rules))
                    shares = f"{found.at_first:.4f}", f"{found.at_end:.4f}"
                    counts = found.calls, found.cut_short, f"{found.weighed:.4f}"
                    _say(_ROW.format(model, f"${limit_usd}", session.name, *shares, *counts))


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
