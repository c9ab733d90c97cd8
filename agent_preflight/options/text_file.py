"""The text of a small file that a person names: a configuration, a prompt, variables."""

from __future__ import annotations

from pathlib import Path

from preflight_proxy.core.errors import ConfigError

BYTES_MAX = 2**20
"""Such a file is a page or two; a larger one is something else."""


def read_text(path: str | Path) -> str:
    """Return a file's text.

    Raises:
        ConfigError: It cannot be read, is larger than a mebibyte, or is no UTF-8 text.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            content = file.read(BYTES_MAX + 1)
        if len(content) > BYTES_MAX:
            raise ConfigError(f"{path} is larger than {BYTES_MAX} bytes: it is not the file that was meant.")
        return content.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path} is no UTF-8 text.") from exc
    except (OSError, RuntimeError) as exc:  # RuntimeError: a home folder that nobody knows
        raise ConfigError(f"{path} cannot be read: {getattr(exc, 'strerror', None) or exc}.") from exc
