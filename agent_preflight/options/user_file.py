"""Which file configures a run, and what it says: `preflight.toml`, else `[tool.agent-preflight]` of `pyproject.toml`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent_preflight.options.run_file import parse_config, parse_pyproject
from agent_preflight.options.text_files import read_text
from preflight_proxy.core.errors import ConfigError

CONFIG_NAME = "preflight.toml"
PYPROJECT_NAME = "pyproject.toml"


def load_config(given: Path | None, directory: Path) -> tuple[dict[str, Any], Path | None]:
    """Return the configuration of a run and the file that it stands in.

    Paths in the file are taken from the file's own folder: of `prompt_file`, of `env_file`, and of mounts that begin with a
    dot or a tilde.

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
    return {}, None


def _read(path: Path) -> dict[str, Any] | None:
    text = read_text(path)
    return parse_pyproject(text, str(path)) if path.name == PYPROJECT_NAME else parse_config(text, str(path))


def _resolved(said: dict[str, Any], path: Path) -> dict[str, Any]:
    folder = path.parent.absolute()
    found = dict(said)
    if "mounts" in said:
        found["mounts"] = [_mount(mount, folder) for mount in said["mounts"]]
    if "prompt_file" in said:
        found["prompt_file"] = _below(said["prompt_file"], folder)
    if "env_file" in said:
        files = said["env_file"]
        found["env_file"] = [_below(each, folder) for each in ([files] if isinstance(files, str) else files)]
    return found


def _below(path: str, folder: Path) -> str:
    return str(folder / Path(path).expanduser())


def _mount(mount: str | tuple[str, str, str], folder: Path) -> str | tuple[str, str, str]:
    if isinstance(mount, tuple):
        return (_source(mount[0], folder), *mount[1:])
    source, colon, rest = mount.partition(":")
    return _source(source, folder) + colon + rest


def _source(source: str, folder: Path) -> str:
    """Return a mount's source; a plain name stays one, because it is a volume's."""
    if source.startswith("~"):
        return str(Path(source).expanduser())
    if source in (".", "..") or source.startswith(("./", "../")):
        return str((folder / source).resolve())
    return source
