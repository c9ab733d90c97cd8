"""Names of a stand-alone proxy's accounts. A name is part of a file name, of a path and of an option."""

from __future__ import annotations

import re

from preflight_proxy.core.ledger.rows import CLOSED, Account

NAME_CHARS_MAX = 64
NAME_RULE = f"1 to {NAME_CHARS_MAX} letters, digits, dots, dashes and underscores, the first a letter or digit"

_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{NAME_CHARS_MAX - 1}}}")


def is_account_name(text: str) -> bool:
    """Return whether a text is a valid account name, see `NAME_RULE`."""
    return _NAME.fullmatch(text) is not None


def is_kept(account: Account) -> bool:
    """Return whether a stand-alone proxy opens this account at its start: it belongs to no run, and was not removed."""
    return not account.run and account.frozen_reason != CLOSED and is_account_name(account.id)
