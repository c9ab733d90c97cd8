"""How many tokens a text has, without its tokenizer: an estimate (T) from the kinds of its bytes.

A text's bytes are translated into classes. Classes and short runs of them are counted, and each count has a weight that was
fitted to the tokenizer of the model's family. T is no bound: `tokens_at_most` adds the margin of the family.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from preflight_proxy.core.pricing.token_weights import FEATURES, WEIGHTS

UNKNOWN = "U"
"""The family of every tokenizer that is not known: its weights are above all that were measured."""
FAMILY_MARGIN_PERCENT = 115
UNKNOWN_MARGIN_PERCENT = 140

_TOKENIZERS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "GPT": (
        (r"openai/(chatgpt-4o|gpt-4o|gpt-4\.1|gpt-4\.5|gpt-5|gpt-oss|o[134])(?![0-9])", "o200k"),
        (r"openai/gpt-(3\.5|4)(?![0-9.a-z])", "cl100k"),
    ),
    "Claude": (
        (r"anthropic/claude-([a-z]+-)?(3(?![0-9])|4([.-][0-6](?![0-9])|(?![.-]?[0-9]{1,2}(?![0-9]))))", "claude3"),
        (r"anthropic/claude-([a-z]+-)?4[.-][7-9](?![0-9])", "claude4.7"),
        (r"anthropic/claude-(?!2|instant|v)", "claude"),
    ),
    "Gemini": ((r"google/(gemini-(flash-|pro-)?[123]|gemma-3)(?![0-9])", "gemma3"),),
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
Source: tiktoken's table of models; the published tokenizers of each model; Anthropic's note on Opus 4.7. Read 2026-11.
"""

_VOWELS = b"aeiouy"
_SPACE, _LINE, _LOWER, _UPPER, _DIGIT, _PUNCTUATION, _CONTROL, _ABOVE_ASCII = b"snlUdpcx"
_FIRST_BYTES = ((0xC0, "1"), (0xC4, "2"), (0xD8, "3"), (0xE0, "4"), (0xE2, "5"), (0xE3, "6"), (0xEE, "7"), (0xF0, "8"))
"""The first byte of a UTF-8 sequence, from here on, and its class: scripts that tokenizers treat alike."""


def _kind(byte: int) -> int:
    """Return the class of a byte."""
    if byte >= 0x80:
        return _ABOVE_ASCII
    char = chr(byte)
    if char.isalpha():
        return _LOWER if char.islower() else _UPPER
    if char.isdigit():
        return _DIGIT
    if char in "\t\r\n":
        return _LINE
    if char == " ":
        return _SPACE
    return _PUNCTUATION if char.isprintable() else _CONTROL


def _letter(byte: int) -> int:
    """Return the class of a byte in the second copy: consonants, and the script that a first byte begins."""
    if byte >= 0xC0:
        return max((first, ord(name)) for first, name in _FIRST_BYTES if first <= byte)[1]
    return ord("q") if 97 <= byte <= 122 and byte not in _VOWELS else ord(".")


_KINDS = bytes(map(_kind, range(256)))
_LETTERS = bytes(map(_letter, range(256)))

_OF_KINDS: Mapping[str, tuple[bytes, ...]] = {
    "lower": (b"l",),
    "upper": (b"U",),
    "digit": (b"d",),
    "nl": (b"n",),
    "punct": (b"p",),
    "ctrl": (b"c",),
    "word_start": (b"sl", b"pl", b"nl", b"xl", b"dl", b"Ul"),
    "long8": (b"l" * 8,),
    "dl": (b"dl",),
    "ld": (b"ld",),
    "dU_Ud": (b"dU", b"Ud"),
    "punct_start": (b"sp", b"np", b"lp", b"dp", b"Up"),
    "sp2": (b"ss",),
    "sp16": (b"s" * 16,),
    "pU_sU": (b"pU", b"sU"),
    "sd_nd": (b"sd", b"nd"),
    "pd": (b"pd",),
    "dp": (b"dp",),
    "sp_run": (b"lss", b"dss", b"pss", b"Uss", b"nss"),
}
_OF_LETTERS: Mapping[str, tuple[bytes, ...]] = {
    "cons5": (b"q" * 5,),
    **{
        name: (bytes([first]),)
        for name, first in zip(["latin1", "cyr_heb", "arab", "e0", "e2", "cjk", "ef", "f0"], b"12345678", strict=True)
    },
}


def _counted(patterns: Mapping[str, tuple[bytes, ...]], weights: tuple[int, ...]) -> tuple[tuple[bytes, int], ...]:
    """Return each pattern that weighs something, with its weight."""
    by_name = dict(zip(FEATURES, weights, strict=True))
    summed: dict[bytes, int] = {}
    for name, of_feature in patterns.items():
        for pattern in of_feature:
            summed[pattern] = summed.get(pattern, 0) + by_name[name]
    return tuple((pattern, weight) for pattern, weight in summed.items() if weight)


_TABLES = {
    family: (_counted(_OF_KINDS, weights), _counted(_OF_LETTERS, weights)) for family, weights in WEIGHTS.items()
}


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


def millitokens(text: bytes, family: str) -> int:
    """Estimate the tokens of `text` (T), in thousandths of a token.

    The sum over the pieces of a text differs from T of the whole by at most a few tokens for each cut.

    Args:
        text: UTF-8.
        family: What `family_of` returned.
    """
    of_kinds, of_letters = _TABLES[family]
    kinds, total = text.translate(_KINDS), 0
    for pattern, weight in of_kinds:
        total += weight * kinds.count(pattern)
    letters = text.translate(_LETTERS)
    for pattern, weight in of_letters:
        total += weight * letters.count(pattern)
    return total


def tokens_at_most(millitokens: int, family: str) -> int:
    """Return the estimate with the margin of its family, in whole tokens, rounded up."""
    percent = UNKNOWN_MARGIN_PERCENT if family == UNKNOWN else FAMILY_MARGIN_PERCENT
    return -(-millitokens * percent // 100_000)
