"""Texts of many kinds, as agents send them: made here, or read from Python's own library and from this repository."""

from __future__ import annotations

import base64
import difflib
import dis
import io
import json
import os
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path
from pydoc_data import topics
from random import Random
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[2]
LIBRARY = Path(os.__file__).parent

_LATIN = (
    "Der Bericht nennt drei Gründe, warum die Anlage im Frühjahr stillstand; zwei davon hätte man früher bemerken können.",
    "La réunion a été reportée à jeudi, parce que les chiffres du trimestre n'étaient pas encore prêts.",
    "Wszystkie zgłoszenia zostały rozpatrzone, chociaż część odpowiedzi wysłano dopiero po tygodniu.",
    "Yağmur durduktan sonra işçiler köprünün öbür ucundaki çukurları yeniden doldurdu.",
    "Buổi sáng hôm ấy, cả xóm dậy sớm để dọn dẹp con đường dẫn ra chợ.",
)
_CYRILLIC = (
    "Инженеры проверили насосы и решили, что менять их пока не нужно.",
    "Το πλοίο έφυγε με καθυστέρηση, επειδή ο άνεμος δυνάμωσε το απόγευμα.",
)
_RIGHT_TO_LEFT = (
    "הספרייה נסגרה מוקדם בגלל תקלה בחשמל, והקוראים חזרו הביתה.",
    "وصل القطار متأخرا ساعة كاملة لأن السكة كانت تحت الصيانة.",
)
_INDIC = (
    "किसानों ने इस साल बारिश से पहले ही खेत जोत लिए थे।",
    "ร้านเล็กๆ ข้างสถานีเปิดตั้งแต่เช้ามืดจนถึงค่ำทุกวัน",
)
_CJK = (
    "会议结束以后,大家一起检查了仓库里的设备,并记下了需要修理的部分。",
    "駅の近くの小さな店は、雨の日でも朝早くから開いている。",
    "창고의 장비를 모두 점검한 뒤에 고칠 것을 적어 두었다.",
)
_STATES = ("ok", "failed", "skipped", "running", "queued")


def natural(kind: str, random: Random, size: int) -> str:
    """Return text of one of `NATURAL`, of at most `size` characters. Text made line by line may be a little shorter."""
    return NATURAL[kind](random, size)[:size]


def crafted(kind: str, random: Random, size: int) -> str:
    """Return text of one of `CRAFTED` of `size` characters: what an attacker would send, if OpenRouter counts densely."""
    return CRAFTED[kind](random, size)[:size]


Make = Callable[[Random, int], str]


@cache
def _files(folder: Path, pattern: str) -> list[str]:
    paths = sorted(path for path in folder.glob(pattern) if path.stat().st_size > 2_000)
    return [path.read_text("utf-8", "replace") for path in paths]


def _excerpt(texts: list[str]) -> Make:
    def make(random: Random, size: int) -> str:
        text = random.choice(texts)
        start = random.randrange(max(1, len(text) - size))
        return text[start : start + size]

    return make


def _from_files(folder: Path, pattern: str) -> Make:
    return lambda random, size: _excerpt(_files(folder, pattern))(random, size)


def _lines(line: Callable[[Random], str]) -> Make:
    def make(random: Random, size: int) -> str:
        made: list[str] = []
        while size > 0:
            made.append(line(random))
            size -= len(made[-1]) + 1
        return "\n".join(made)

    return make


def _sentences(*sentences: str) -> Make:
    return _lines(lambda random: f"{random.choice(sentences)} ({random.randrange(1, 100)})")


def _record(random: Random) -> dict[str, object]:
    return {
        "id": random.randrange(10**6),
        "name": random.choice(("alpha", "beta-2", "Gamma Ltd.", "délta")),
        "price": round(random.random() * 1000, 2),
        "tags": random.sample(_STATES, 2),
        "parent": random.choice((None, {"id": random.randrange(999), "active": True})),
    }


def _log(random: Random) -> str:
    date, hour, minute, ms = (random.randrange(*limits) for limits in ((1, 31), (24,), (60,), (1_000,)))
    request = f"request {random.getrandbits(32):08x} took {random.randrange(5000)} ms"
    return f"2026-11-{date:02} {hour:02}:{minute:02}:12,{ms:03} INFO [worker-{random.randrange(20)}] {request}"


def _diff(random: Random, size: int) -> str:
    texts = _files(LIBRARY, "*.py")
    old = random.choice(texts).splitlines(keepends=True)[: size // 10 + 60]
    new = [line for line in old if random.random() > 0.3]
    return "".join(difflib.unified_diff(old, new, "a/module.py", "b/module.py"))


def _bytecode(random: Random, size: int) -> str:
    code = compile(random.choice(_files(LIBRARY, "*.py")), "module.py", "exec")
    out = io.StringIO()
    dis.dis(code, file=out, depth=1)
    return _excerpt([out.getvalue()])(random, size)


def _markup(random: Random) -> str:
    attributes = f'id="{random.randrange(9999)}" class="row {random.choice(_STATES)}"'
    return f"  <item {attributes}>{escape(str(_record(random)))}</item>"


def _listing(random: Random) -> str:
    name = random.choice(("config", "main", "test_api", "README", "data-2026", "index.min"))
    size, date, minute = random.randrange(10**6), random.randrange(1, 31), random.randrange(60)
    return f"-rw-r--r-- 1 root root {size:8} Nov {date:2} 12:{minute:02} {name}.{random.choice(('py', 'json', 'md'))}"


def _trace(random: Random) -> str:
    name, module = random.choice(("load", "parse_args", "__init__", "_wrapped", "main")), random.choice(_STATES)
    place = f'  File "/srv/app/lib/{module}.py", line {random.randrange(2000)}, in {name}'
    return f"{place}\n    return self._{name}(*args, **kwargs)"


def _statement(random: Random) -> str:
    values = (
        f"{random.randrange(10**5)}, {random.randrange(999)}, '{random.choice(_STATES)}', {random.random() * 99:.2f}"
    )
    return f"INSERT INTO orders (id, customer_id, state, total) VALUES ({values});"


NATURAL: dict[str, Make] = {
    "library source": _from_files(LIBRARY, "*.py"),
    "test source": _from_files(ROOT / "tests", "**/test_*.py"),
    "documentation": _from_files(ROOT / "docs", "*.md"),
    "reference manual": _excerpt(["\n".join(topics.topics.values())]),
    "JSON": lambda random, size: json.dumps([_record(random) for _ in range(size // 80 + 1)]),
    "indented JSON": lambda random, size: json.dumps([_record(random) for _ in range(size // 120 + 1)], indent=2),
    "log": _lines(_log),
    "CSV": _lines(lambda random: ",".join(str(random.randrange(10 ** random.randrange(1, 7))) for _ in range(8))),
    "table": _lines(lambda random: "| " + " | ".join(random.choices((*_STATES, "12", "3,400", "n/a"), k=6)) + " |"),
    "base64": lambda random, size: base64.b64encode(random.randbytes(size)).decode(),
    "hashes": _lines(lambda random: f"{random.randbytes(32).hex()}  {uuid.UUID(int=random.getrandbits(128))}"),
    "diff": _diff,
    "bytecode": _bytecode,
    "markup": _lines(_markup),
    "listing": _lines(_listing),
    "traceback": _lines(_trace),
    "SQL": _lines(_statement),
    "Latin languages": _sentences(*_LATIN),
    "Cyrillic, Greek, Hebrew, Arabic": _sentences(*_CYRILLIC, *_RIGHT_TO_LEFT),
    "Asian languages": _sentences(*_INDIC, *_CJK),
}
"""By kind."""

CRAFTED: dict[str, Make] = {
    "common words": lambda random, size: " ".join(random.choices(("the", "and", "of", "to"), k=size // 2)),
    "one letter": lambda _random, size: "a" * size,
    "random words": lambda random, size: " ".join("".join(random.choices("etaoinshr", k=4)) for _ in range(size // 4)),
    "rare consonants": lambda random, size: " ".join(
        "".join(random.choices("bcdfgjkqvwxz", k=3)) for _ in range(size // 3)
    ),
    "capitals and digits": lambda random, size: "".join(random.choices("A1B2C3XZ79", k=size)),
    "punctuation": lambda random, size: "".join(random.choices("!?%&/()=[]{}<>|~", k=size)),
    "spaces": lambda _random, size: " " * (size - 1) + ".",
}
"""By kind. Some have few tokens in every tokenizer that exists, so a bound by classes of text is far below one token a byte."""
