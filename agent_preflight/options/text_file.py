"""The text of a small file that a person names: a configuration, a prompt, variables."""

from __future__ import annotations

from pathlib import Path

from preflight_proxy.core.errors import ConfigError

BYTES_MAX = 2**20
"""Such a file is a page or two; a larger one is something else."""


class FileError(ConfigError):
    """A file that a person named cannot be used.

    Attributes:
        path: The file, as it was named.
    """

    def __init__(self, path: str | Path, trouble: str) -> None:
        self.path = str(path)
        super().__init__(f"{path}{trouble}")


def read_text(path: str | Path) -> str:
    """Return a file's text.

    Raises:
        FileError: It cannot be read, is larger than a mebibyte, or is no UTF-8 text.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            content = file.read(BYTES_MAX + 1)
        if len(content) > BYTES_MAX:
            raise FileError(path, f" is larger than {BYTES_MAX} bytes: it is not the file that was meant.")
        return content.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise FileError(path, " is no UTF-8 text.") from exc
    except (OSError, RuntimeError) as exc:  # RuntimeError: a home folder that nobody knows
        raise FileError(path, f" cannot be read: {getattr(exc, 'strerror', None) or exc}.") from exc
