"""Small text files that a person names: read whole, and env files as variables.

An env file has lines of `NAME=VALUE`, read as `docker run --env-file` reads them, with the quotes that dotenv files have. A value
without quotes is taken as it is: a `#` in it begins no comment, because it may be part of a password.

Source: docker/cli 28.2, pkg/kvfile; for quotes and `export`, github.com/motdotla/dotenv, README, 2026-11.
"""

from __future__ import annotations

import re
from pathlib import Path

from preflight_proxy.core.errors import ConfigError

BYTES_MAX = 2**20
"""The largest such file. A configuration, a prompt or an env file is a page or two; a larger file was named by mistake."""

_NAME = re.compile(r"[^\s=\"'#]+")
_QUOTED = re.compile(r"""(?:'(?P<literal>[^']*)'|"(?P<escaped>(?:[^"\\]|\\.)*)")""")
_COMMENT = re.compile(r"\s*(?:#.*)?")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


class FileError(ConfigError):
    """A file that a person named cannot be used.

    Attributes:
        path: The file, as it was named.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = str(path)
        super().__init__(f"{path}{reason}")


def read_text(path: str | Path) -> str:
    """Return a file's text.

    Raises:
        FileError: The file cannot be read, is larger than a mebibyte, or is not UTF-8 text.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            content = file.read(BYTES_MAX + 1)
        if len(content) > BYTES_MAX:
            raise FileError(path, f" is larger than {BYTES_MAX} bytes. Name another file.")
        return content.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise FileError(path, " is not UTF-8 text.") from exc
    except (OSError, RuntimeError) as exc:  # RuntimeError: the home folder of a user who does not exist
        raise FileError(path, f" cannot be read: {getattr(exc, 'strerror', None) or exc}.") from exc


def parse_env_file(text: str, name: str) -> dict[str, str | None]:
    """Return the variables of an env file. The value None means: the value that the variable has in this process.

    Args:
        text: Lines of `NAME=VALUE` or `NAME`, with an optional `export `; blank lines; comments after a `#` that begins a line.
            The last line of a name counts.
        name: What errors call the file.

    Raises:
        FileError: A line has another form. The text gives its number and never shows the line.
    """
    variables: dict[str, str | None] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        key, equals, value = content.removeprefix("export ").partition("=")
        if not _NAME.fullmatch(key.strip()) or key != key.rstrip():
            raise FileError(name, f", line {number}: it must be NAME=VALUE, and the name has no blanks or quotes.")
        try:
            variables[key.strip()] = _value(value.strip()) if equals else None
        except ValueError as exc:
            raise FileError(name, f", line {number}: {exc}") from None
    return variables


def _value(text: str) -> str:
    if not text.startswith(("'", '"')):
        return text
    quoted = _QUOTED.match(text)
    if quoted is None:
        raise ValueError("the quote that begins the value is not closed on this line.")
    if not _COMMENT.fullmatch(text, quoted.end()):
        raise ValueError("only a comment may follow the closing quote.")
    if quoted["literal"] is not None:
        return quoted["literal"]
    return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[1]), quoted["escaped"])
