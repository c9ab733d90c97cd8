"""How the simulated providers count tokens. A client cannot know it before the call."""

from __future__ import annotations

import unicodedata
from enum import Enum
from functools import cache
from importlib import import_module
from typing import Any

from openrouter_sim.base.token_classes import estimate

MESSAGE_TOKENS = 4
"""What a chat template adds to each message."""
TOOL_TOKENS = 12
"""What a template adds to each tool definition."""
TOOL_PROMPT_TOKENS = {"Claude": 346, "Claude 4.7": 530}
"""The tool-use system prompt by family. Source: docs.anthropic.com, tool use overview, 2025 and 2026."""
OTHER_TOOL_PROMPT_TOKENS = 40
IMAGE_TOKENS = 800


class Tokenizer(Enum):
    """How many tokens a text has."""

    USUAL = "usual"
    """Four ASCII characters a token, two bytes a token of other text."""
    BYTES = "bytes"
    """One token for each UTF-8 byte: the most that a byte-level tokenizer counts."""
    NFC = "nfc"
    """One token for each byte of the NFC form, which can be longer than the text."""
    O200K = "o200k"
    """The tokenizer of the GPT family, for every model. Needs the package rs-bpe."""
    REALISTIC = "realistic"
    """That one for models of the GPT family, and classes of text for others (`token_classes`). Needs the package rs-bpe."""
    DENSE = "dense"
    """What crafted text can reach: as `BYTES`, but 1.7 tokens for each ASCII byte for Claude models."""


_DENSE_ASCII_TENTHS = 17
"""Source: searches for dense text with ctok 1.3.0, a reconstruction of Claude's tokenizers, 2026-11: 1.1 to 1.7."""


def require(tokenizer: Tokenizer) -> None:
    """Return if this tokenizer can count here.

    Raises:
        ValueError: It needs a package that is not installed.
    """
    if tokenizer in (Tokenizer.O200K, Tokenizer.REALISTIC):
        _o200k()


def count(text: str, tokenizer: Tokenizer = Tokenizer.USUAL, family: str = "") -> int:
    """Return the tokens of `text`; 0 for the empty string.

    Args:
        text: Any text.
        tokenizer: Which count.
        family: The model's family, for counts that differ by it.

    Raises:
        ValueError: The tokenizer needs a package that is not installed.
    """
    match tokenizer:
        case Tokenizer.USUAL:
            return _usual(text)
        case Tokenizer.BYTES:
            return _bytes(text)
        case Tokenizer.NFC:
            return _bytes(unicodedata.normalize("NFC", text))
        case Tokenizer.DENSE:
            return _dense(text) if family.startswith("Claude") else _bytes(text)
        case Tokenizer.REALISTIC if family != "GPT":
            return estimate(text, family)
        case Tokenizer.O200K | Tokenizer.REALISTIC:
            return _real(text)


def _usual(text: str) -> int:
    if text.isascii():
        return (len(text) + 3) // 4
    ascii_count = len(text.encode("ascii", "ignore"))
    return (ascii_count + 3) // 4 + (_bytes(text) - ascii_count + 1) // 2


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _dense(text: str) -> int:
    ascii_count = len(text) if text.isascii() else len(text.encode("ascii", "ignore"))
    return -(-ascii_count * _DENSE_ASCII_TENTHS // 10) + _bytes(text) - ascii_count


def _real(text: str) -> int:
    try:
        return int(_o200k().count(text))
    except UnicodeEncodeError:  # A lone surrogate is no text. A provider reads it as U+FFFD.
        return int(_o200k().count(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")))


@cache
def _o200k() -> Any:  # noqa: ANN401 - the package has no types
    try:
        return import_module("rs_bpe.bpe").openai.o200k_base()
    except ImportError as exc:
        raise ValueError(
            "This tokenizer needs the package rs-bpe, which is not installed. Run `python -m pip install rs-bpe`, or choose "
            "another tokenizer in the scenario."
        ) from exc
