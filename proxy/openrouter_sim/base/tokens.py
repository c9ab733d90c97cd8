"""How the simulated providers count tokens. A client cannot know it before the call."""

from __future__ import annotations

import unicodedata
from enum import Enum

MESSAGE_TOKENS = 4
"""What a chat template adds to each message."""
TOOL_TOKENS = 12
"""What a template adds to each tool definition."""
TOOL_PROMPT_TOKENS = {"Claude": 346}
"""The tool-use system prompt by tokenizer. Source: docs.anthropic.com, tool use overview, 2025."""
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


def count(text: str, tokenizer: Tokenizer = Tokenizer.USUAL) -> int:
    """Return the tokens of `text`; 0 for the empty string."""
    match tokenizer:
        case Tokenizer.USUAL:
            return _usual(text)
        case Tokenizer.BYTES:
            return _bytes(text)
        case Tokenizer.NFC:
            return _bytes(unicodedata.normalize("NFC", text))


def _usual(text: str) -> int:
    if text.isascii():
        return (len(text) + 3) // 4
    ascii_count = len(text.encode("ascii", "ignore"))
    return (ascii_count + 3) // 4 + (_bytes(text) - ascii_count + 1) // 2


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
