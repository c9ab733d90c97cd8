"""The text of budget.txt, which agents read: from integers to the layout that they know.

Every figure is exact: rounding happens once, here, half to even, as Python's own ``.3f`` does on exact values.
"""

from collections.abc import Sequence

import msgspec

from preflight_proxy.core.money import PUSD_PER_USD

RECENT_ACTIONS = 5
"""How many of the newest actions the detailed text lists."""

LABEL_CHARS_MAX = 48
"""Labels are tool names that a model chose: longer ones say nothing more and push the figures off a line."""

AVERAGE_PUSD_MIN = PUSD_PER_USD // 10_000
"""At an average of a hundredth of a cent or less no estimate of the actions left is made: it reads ``~0``."""

UNLABELLED = "thinking"
"""The label of spend that no tool caused."""


class Action(msgspec.Struct, frozen=True):
    """One thing the agent did and what it cost, in pico-USD."""

    label: str
    cost_pusd: int


def simple_text(used_pusd: int, limit_pusd: int) -> str:
    """Return the one line of the simple budget file, newline included.

    Args:
        used_pusd: what is gone or may yet be charged; may exceed the limit, which reads as nothing left.
        limit_pusd: the account's limit; zero or less reads as nothing left.
    """
    remaining = max(limit_pusd - used_pusd, 0)
    percent = min(remaining * 100 // limit_pusd, 100) if limit_pusd > 0 else 0
    return f"Budget: ${_fixed(remaining, 3)} remaining of ${_fixed(limit_pusd, 2)} ({percent}% left)\n"


def detailed_text(used_pusd: int, limit_pusd: int, actions: Sequence[Action], total_actions: int) -> str:
    """Return the detailed budget file: the simple line, the newest actions, the average and what it leaves room for.

    Args:
        used_pusd: as in `simple_text`.
        limit_pusd: as in `simple_text`.
        actions: the actions, oldest first; only the newest five are shown.
        total_actions: how many actions there were in all; the average is the used amount over these.
    """
    head = simple_text(used_pusd, limit_pusd) + "\n"
    if total_actions < 1:
        return head + "(No cost data yet)\n"
    recent = "".join(f"  - ${_fixed(a.cost_pusd, 4)}  ({label_text(a.label)})\n" for a in actions[-RECENT_ACTIONS:])
    return (
        f"{head}Recent costs:\n{recent}\n"
        f"Total actions: {total_actions}  |  Avg cost/action: ${_average(used_pusd, total_actions)}\n"
        f"Estimated actions remaining: ~{_actions_left(used_pusd, limit_pusd, total_actions)}\n"
    )


def label_text(label: str) -> str:
    """Return a label fit for one line: printable characters only, at most `LABEL_CHARS_MAX`, never empty."""
    printable = "".join(c if c.isprintable() else " " for c in label[: LABEL_CHARS_MAX * 4])
    return " ".join(printable.split())[:LABEL_CHARS_MAX].rstrip() or UNLABELLED


def _average(used_pusd: int, total_actions: int) -> str:
    return _decimals(_half_even(used_pusd, total_actions * PUSD_PER_USD // 10**4), 4)


def _actions_left(used_pusd: int, limit_pusd: int, total_actions: int) -> int:
    if used_pusd <= AVERAGE_PUSD_MIN * total_actions:
        return 0
    return max(limit_pusd - used_pusd, 0) * total_actions // used_pusd


def _fixed(amount_pusd: int, places: int) -> str:
    return _decimals(_half_even(amount_pusd, PUSD_PER_USD // 10**places), places)


def _decimals(units: int, places: int) -> str:
    whole, part = divmod(abs(units), 10**places)
    return f"{'-' if units < 0 else ''}{whole}.{part:0{places}d}"


def _half_even(numerator: int, denominator: int) -> int:
    quotient, rest = divmod(numerator, denominator)
    return quotient + (2 * rest > denominator or (2 * rest == denominator and quotient % 2 == 1))
