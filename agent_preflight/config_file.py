"""Which file configures a run, and what it says: `preflight.toml`, else `[tool.agent-preflight]` of `pyproject.toml`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from agent_preflight.run_config import Mount, RunConfig, parse_config, parse_pyproject
from preflight_proxy.errors import ConfigError

CONFIG_NAME = "preflight.toml"
PYPROJECT_NAME = "pyproject.toml"
BYTES_MAX = 2**20
"""A configuration is a page or two; a larger file is something else."""


def load_config(given: Path | None, directory: Path) -> tuple[RunConfig, Path | None]:
    """Return the configuration of a run and the file that it stands in.

    Paths in the file are taken from the file's own folder: of `prompt_file`, whose text stands in `prompt` afterwards, and of
    mounts that begin with a dot or a tilde.

    Args:
        given: The file that the user names; a `pyproject.toml` is read as one.
        directory: Where else a file is looked for.

    Returns:
        An empty configuration and None where there is no file.

    Raises:
        ConfigError: The file that was named is not there, cannot be read, or is wrong.
    """
    if given is not None:
        config = _read(given)
        if config is None:
            raise ConfigError(f"{given} has no table [tool.agent-preflight].")
        return _resolved(config, given), given
    for path in (directory / CONFIG_NAME, directory / PYPROJECT_NAME):
        if path.is_file() and (config := _read(path)) is not None:
            return _resolved(config, path), path
    return RunConfig(), None


def _read(path: Path) -> RunConfig | None:
    text = _text(path)
    return parse_pyproject(text, str(path)) if path.name == PYPROJECT_NAME else parse_config(text, str(path))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
        if len(content) > BYTES_MAX:
            raise ConfigError(f"{path} is larger than a configuration can be.")
        return content.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path} is no UTF-8 text.") from exc
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}.") from exc


def _resolved(config: RunConfig, path: Path) -> RunConfig:
    folder = path.parent.absolute()
    mounts = None if config.mounts is None else [_mount(mount, folder) for mount in config.mounts]
    prompt = config.prompt if config.prompt_file is None else _text(folder / Path(config.prompt_file).expanduser())
    return msgspec.structs.replace(config, mounts=mounts, prompt=prompt, prompt_file=None)


def _mount(mount: str | Mount, folder: Path) -> str | Mount:
    if isinstance(mount, Mount):
        return msgspec.structs.replace(mount, source=_source(mount.source, folder))
    source, colon, rest = mount.partition(":")
    return _source(source, folder) + colon + rest


def _source(source: str, folder: Path) -> str:
    """Return a mount's source; a plain name stays one, because it is a volume's."""
    if source.startswith("~"):
        return str(Path(source).expanduser())
    if source in (".", "..") or source.startswith(("./", "../")):
        return str((folder / source).resolve())
    return source
