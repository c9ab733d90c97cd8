"""What is wrong in a configuration, in sentences for a person who looks at the file. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

import msgspec

Tables = Mapping[str, tuple[type[msgspec.Struct], ...]]

KEYS_OF_ACCOUNTS = frozenset({"admin_key", "or_key", "api_key", "openrouter_api_key", "or_admin_key"})
"""What people may be tempted to write into a file that ends up in a repository."""
OTHER_NAMES = {
    "budget_usd": "budget",
    "image_name": "image",
    "initial_prompt": "prompt",
    "container_args": "arguments",
    "preflight_kwargs": "preflight",
    "eject_policy": "policies",
    "timeout": "timeout_s",
    "idle_timeout": "idle_timeout_s",
}
"""What `run_multi` or the command line calls it, and what the file does."""

_MESSAGE = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<key>.*)`")
_TYPES = re.compile(r"Expected `(?P<wanted>[^`]*)`, got `(?P<got>[^`]*)`")
_WORDS = {
    "str": "a text in quotes",
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}


def known_keys(table: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the keys that a table may have, the one that tells its kind first."""
    kind = table.__struct_config__.tag_field
    return (*((kind,) if kind else ()), *table.__struct_fields__)


def explained(message: str, tables: Tables) -> str:
    """Return a message of msgspec's as a sentence for a person who looks at the file.

    Args:
        message: What `msgspec.convert` says of it.
        tables: What may stand at each place, named as in messages but for the numbers.
    """
    found = _MESSAGE.fullmatch(message)
    what, path = (found["what"], found["path"] or "") if found is not None else (message, "")
    at = f"{path}: " if path else ""
    if unknown := _UNKNOWN.fullmatch(what):
        return at + _unknown(unknown["key"], _fields_at(path, tables))
    if missing := _MISSING.fullmatch(what):
        return f"{at}the key {missing['key']!r} is missing."
    if types := _TYPES.fullmatch(what):
        got = "a fraction" if types["got"] == "decimal" else _in_words(types["got"])
        return f"{at}must be {_in_words(types['wanted'])}, not {got}."
    if what.startswith(("Invalid value", "Invalid enum value")):
        return f"{at}{what[0].lower()}{what[1:]}; known are {', '.join(_values_at(path, tables))}."
    return f"{at}{what[0].lower()}{what[1:]}."


def _unknown(key: str, known: Sequence[str]) -> str:
    if key.lower() in KEYS_OF_ACCOUNTS:
        return f"{key!r} does not belong into a file: keys come from OR_ADMIN_KEY and OPENROUTER_API_KEY."
    same = [OTHER_NAMES[key]] if OTHER_NAMES.get(key) in known else []
    near = same or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"unknown key {key!r}: " + (f"do you mean {near[0]!r}?" if near else f"known are {', '.join(known)}.")


def _fields_at(path: str, tables: Tables) -> tuple[str, ...]:
    found = tables.get(_place(path), ())
    return tuple(dict.fromkeys(key for table in found for key in known_keys(table)))


def _values_at(path: str, tables: Tables) -> tuple[str, ...]:
    place, _, key = _place(path).rpartition(".")
    found = tables.get(place, ())
    tags = [str(t.__struct_config__.tag) for t in found if t.__struct_config__.tag_field == key]
    return tuple(tags) or _choices(found, key)


def _choices(found: Sequence[type[msgspec.Struct]], key: str) -> tuple[str, ...]:
    for table in found:
        for field in msgspec.structs.fields(table):
            if field.encode_name == key:
                return tuple(re.findall(r"'(\w+)'", str(field.type)))
    return ()


def _place(path: str) -> str:
    return re.sub(r"\[[^\]]*\]", "[]", path)


def _in_words(kinds: str) -> str:
    names = [kind for kind in kinds.split(" | ") if kind != "null"]
    return " or ".join(_WORDS.get(kind, kind) for kind in names)
