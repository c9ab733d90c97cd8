"""How many tokens a text has, without its tokenizer: an estimate (T) from the kinds of its bytes.

Each byte has a class, and so has the byte before it: a small letter after a space begins a word, a digit after a digit goes on with
a number. Every pair of classes has a weight, fitted to the tokenizer of the model's family (docs/tokens.md); T is the sum. T is no
bound: `tokens_at_most` adds the margin of the family.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import msgspec

UNKNOWN = "U"
"""The family of every tokenizer that is not known: its weights are above all that were measured."""
WEIGHTS_FILE = Path(__file__).with_name("token_weights.json")
"""What the fit writes (docs/tokens.md), with what its weights do on texts that it never saw."""
WEIGHT_MILLITOKENS = 10
"""The unit of a weight, in thousandths of a token."""
FAMILY_MARGIN_PERCENT = 115
UNKNOWN_MARGIN_PERCENT = 140

_TOKENIZERS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "GPT": (
        (r"openai/(chatgpt-4o|gpt-4o|gpt-4\.1|gpt-4\.5|gpt-5|gpt-oss|o[134])(?![0-9])", "o200k"),
        (r"openai/gpt-(3\.5|4)(?![0-9.a-z])", "cl100k"),
    ),
    "Claude": (
        (r"anthropic/claude-([a-z]+-)?(3(?![0-9])|4([.-][0-6](?![0-9])|(?![.-]?[0-9]{1,2}(?![0-9]))))", "claude3"),
        (r"anthropic/claude-([a-z]+-)?(4[.-][7-9](?![0-9])|5(?![.-]?[0-9]{1,2}(?![0-9])))", "claude4.7"),
        (r"anthropic/claude-(?!2|instant|v)", "claude"),
    ),
    "Gemini": ((r"google/(gemini-(flash-|pro-)?[123]|gemma-3)(?![0-9])", "gemma3"),),
    "Llama4": ((r"meta-llama/llama-4(?![0-9])", "llama4"),),
    "Llama3": ((r"[^/]+/.*llama-?3(?![0-9])", "llama3"),),
    "Qwen": ((r"qwen/qwen-?(2|2\.5|3)(?![0-9.])", "qwen3"),),
    "Qwen3": ((r"qwen/qwen3(?![0-9.])", "qwen3"),),
    "DeepSeek": ((r"deepseek/deepseek-(chat|r1|v3|chat-v3)(?![0-9])", "deepseek3"),),
    "Mistral": (
        (r"mistralai/(mistral-nemo|ministral|magistral-small|devstral-small|mistral-small-(24b|3\.[12]))", "tekken"),
    ),
}
"""`architecture.tokenizer` of OpenRouter to patterns of model ids, and the family of the first that matches.

A tokenizer of OpenRouter's list covers several vocabularies: "GPT" is o200k and cl100k, "Mistral" is tekken and sentencepiece. A
model whose vocabulary is not known for certain matches nothing.
Source: tiktoken's table of models; the published tokenizers of each model; for Claude, ctok's table of versions. Read 2026-11.
"""

CLASSES = (
    *("aeio", "uy", "tnsr", "ldhc", "mpfgb", "wvk", "xjqz"),
    *("AEIOUSTCR", "PDMNLBFGHW", "JKQVXYZ", "0123456789", " ", "\n\r", "\t"),
    *(".,-_/", "()\"':;=", "{}[]<>*+&|!?@#$%^~\\`"),
)
"""Printable characters that tokenizers treat alike, by how frequent they are in words and in code."""
FIRST_BYTES = (
    *(
        range(0xC2, 0xC4),
        range(0xC4, 0xCA),
        (*range(0xCA, 0xCE), *range(0xD2, 0xD7)),
        range(0xCE, 0xD2),
        range(0xD7, 0xDA),
    ),
    *(range(0xDA, 0xE0), (0xE0,), (0xE1,), (0xE2,), (0xE3,), range(0xE4, 0xEA), range(0xEA, 0xEE), range(0xEE, 0xF8)),
)
"""First bytes of UTF-8 sequences, by script: Latin, rare, Greek and Cyrillic, Hebrew and Arabic, Indic and Thai, Asian."""
CONTROL_CLASS = len(CLASSES) + len(FIRST_BYTES)
CONTINUATION_CLASS = CONTROL_CLASS + 1
CLASSES_BEFORE = (
    " \n\r\t",
    "aeiouy",
    "tnsrldhc",
    "mpfgbwvkxjqz",
    string.ascii_uppercase,
    string.digits,
    string.punctuation,
)
"""The classes of the byte before; what is in none of them is the eighth. A text begins as after white space."""


def _classes() -> bytes:
    """Return the class of each byte."""
    table = [CONTROL_CLASS] * 0x80 + [CONTINUATION_CLASS] * 0x80
    for number, members in enumerate((*(chars.encode() for chars in CLASSES), *FIRST_BYTES)):
        for byte in members:
            table[byte] = number
    return bytes(table)


def _classes_before() -> bytes:
    """Return the class of each byte as the one before, in the three high bits."""
    table = [len(CLASSES_BEFORE)] * 0x100
    for number, chars in enumerate(CLASSES_BEFORE):
        for byte in chars.encode():
            table[byte] = number
    return bytes(number << 5 for number in table)


_CLASS, _CLASS_BEFORE = _classes(), _classes_before()
_FAMILIES = msgspec.json.decode(WEIGHTS_FILE.read_bytes())["families"]
WEIGHTS: Mapping[str, bytes] = {family: bytes.fromhex("".join(fit["weights"])) for family, fit in _FAMILIES.items()}
"""Family to the weight of each pair. `claude` is for a Claude of unknown version: the larger of both of Claude's."""


@lru_cache(1024)
def family_of(model: str, tokenizer: str) -> str:
    """Return the tokenizer family of a model; `U` where its vocabulary is not known for certain.

    Args:
        model: OpenRouter's id, without `:suffix`.
        tokenizer: `architecture.tokenizer` of the model.
    """
    name = model.lower().lstrip("~")
    for pattern, family in _TOKENIZERS.get(tokenizer, ()):
        if re.match(pattern, name):
            return family
    return UNKNOWN


@lru_cache(1024)
def likely_family(model: str) -> str:
    """Return the family that a model's id suggests, for counts. A bound takes `family_of`, which knows the tokenizer too.

    Args:
        model: OpenRouter's id, without `:suffix`; or one of Anthropic's own, such as `claude-sonnet-4-5`.
    """
    name = f"anthropic/{model}" if model.lower().startswith("claude-") else model
    families = (family_of(name, tokenizer) for tokenizer in _TOKENIZERS)
    return next((family for family in families if family != UNKNOWN), UNKNOWN)


def pairs(text: bytes) -> bytes:
    """Return one byte for each byte of `text`: its class in the five low bits, the class of the byte before in the three high ones.

    The two translated copies are added as one long number each, because Python has no faster way to join them byte by byte.
    """
    classes = int.from_bytes(text.translate(_CLASS), "little")
    before = int.from_bytes(text.translate(_CLASS_BEFORE), "little") << 8
    return (classes | before).to_bytes(len(text) + 1, "little")[: len(text)]


def millitokens(text: bytes, family: str) -> int:
    """Estimate the tokens of `text` (T), in thousandths of a token.

    The sum over the pieces of a text differs from T of the whole by at most three tokens for each cut.

    Args:
        text: UTF-8.
        family: What `family_of` returned.
    """
    return WEIGHT_MILLITOKENS * sum(pairs(text).translate(WEIGHTS[family]))


def tokens_at_most(millitokens: int, family: str) -> int:
    """Return the estimate with the margin of its family, in whole tokens, rounded up."""
    return -(-millitokens * margin_percent(family) // 100_000)


def margin_percent(family: str) -> int:
    """Return m of a family, in hundredths."""
    return UNKNOWN_MARGIN_PERCENT if family == UNKNOWN else FAMILY_MARGIN_PERCENT
