"""Prints how much of a budget can be used: ``python -m tests.usable [--limit USD] [--model ID] [--session WORD]``."""

from __future__ import annotations

import argparse
import asyncio
import logging

import structlog

from tests.usable.measure import usable
from tests.usable.sessions import SESSIONS

MODELS = ("anthropic/claude-sonnet-4.5", "openai/gpt-4.1-nano")
LIMITS_USD = ("5", "0.25")
_ROW = "{:<28} {:>6}  {:<16} {:>8} {:>8} {:>7} {:>10}"


def main() -> None:
    """Measure every combination that was asked for, one after another."""
    parser = argparse.ArgumentParser(prog="python -m tests.usable", description=__doc__)
    parser.add_argument("--limit", action="append", help="dollars; may be repeated")
    parser.add_argument("--model", action="append", help="a model's id; may be repeated")
    parser.add_argument("--session", default="", help="only sessions with this word in their name")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    _say(_ROW.format("model", "limit", "conversation", "at first", "at end", "calls", "cut short"))
    for model in asked.model or MODELS:
        for limit_usd in asked.limit or LIMITS_USD:
            for session in SESSIONS:
                if asked.session in session.name:
                    found = asyncio.run(usable(session, model, limit_usd))
                    shares = f"{found.at_first:.4f}", f"{found.at_end:.4f}"
                    _say(_ROW.format(model, f"${limit_usd}", session.name, *shares, found.calls, found.cut_short))


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
