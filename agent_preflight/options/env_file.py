"""Files of `NAME=VALUE` lines, read as `docker run --env-file` reads them, and quotes as dotenv files have them. Pure.

A value without quotes is what stands after `=`, as it is: a `#` in it is no comment, because it may be part of a password.

Source: docker/cli 28.2, pkg/kvfile; for quotes and `export`, github.com/motdotla/dotenv, README, 2026-11.
"""

from __future__ import annotations

import re

from preflight_proxy.core.errors import ConfigError

_NAME = re.compile(r"[^\s=\"'#]+")
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"')
_AFTER_QUOTE = re.compile(r"\s*(?:#.*)?")
_ESCAPED = re.compile(r"\\(.)")
_MEANING = {"n": "\n", "r": "\r", "t": "\t"}


def parse_env_file(text: str, name: str) -> dict[str, str | None]:
    """Return the variables of an env file; None for one that is handed on as it is set here. The last of a name counts.

    Args:
        text: The file's: lines of `NAME=VALUE` or `NAME`, perhaps after `export`; blank lines; and comments after `#`.
        name: What errors call the file.

    Raises:
        ConfigError: A line is none of these; the text has its number, never what stands in it.
    """
    found: dict[str, str | None] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        written = line.strip()
        if not written or written.startswith("#"):
            continue
        key, equals, value = written.removeprefix("export ").partition("=")
        if not _NAME.fullmatch(key.strip()) or key != key.rstrip():
            raise ConfigError(f"{name}, line {number}: it must be NAME=VALUE, with a name of no blanks or quotes.")
        found[key.strip()] = _value(value.strip(), f"{name}, line {number}") if equals else None
    return found


def _value(text: str, where: str) -> str:
    pattern = {"'": _SINGLE, '"': _DOUBLE}.get(text[:1])
    if pattern is None:
        return text
    quoted = pattern.match(text)
    if quoted is None:
        raise ConfigError(f"{where}: the quote that begins the value is not closed on this line.")
    if not _AFTER_QUOTE.fullmatch(text, quoted.end()):
        raise ConfigError(f"{where}: after the closing quote only a comment may follow.")
    return quoted[1] if pattern is _SINGLE else _ESCAPED.sub(lambda mark: _MEANING.get(mark[1], mark[1]), quoted[1])
