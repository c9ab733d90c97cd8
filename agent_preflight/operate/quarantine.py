"""Endpoints that billed above what was reserved for a call: no proxy uses them, until a person clears them (M14)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agent_preflight.runs.control_file import read_control
from agent_preflight.sidecar.control_client import ControlClient, ControlUnreachableError
from agent_preflight.sweeping.leftovers import run_folders
from preflight_proxy.base.config import origin, user_quarantine_file
from preflight_proxy.base.data_folder import control_socket
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.ledger.rows import OPENROUTER, QuarantinedEndpoint
from preflight_proxy.ledger.quarantine_file import QuarantineFile


@dataclass(frozen=True, slots=True)
class ClearResult:
    """What became of a clearing.

    Attributes:
        listed: The endpoint was on the user's list.
        proxies: Folders of the proxies that were told.
    """

    listed: bool
    proxies: tuple[Path, ...]


def quarantined(path: Path | None = None) -> list[QuarantinedEndpoint]:
    """Return the endpoints on the user's list, sorted.

    Args:
        path: The list; the user's own if None.
    """
    rows = QuarantineFile(path or user_quarantine_file()).read()
    return sorted(rows, key=lambda row: (row.upstream, row.model, row.tag))


async def clear(
    model: str,
    tag: str,
    runs_dir: Path,
    data: Path | None = None,
    path: Path | None = None,
    upstream: str = OPENROUTER,
) -> ClearResult:
    """Take an endpoint off the user's list, and tell the proxies that run before the same upstream.

    Args:
        model: The model's id.
        tag: The endpoint's tag, as the list shows it.
        runs_dir: Whose live runs are told.
        data: A stand-alone proxy's data folder, whose proxy is told too.
        path: The list; the user's own if None.
        upstream: The API base, or its origin, that has the endpoint.

    Raises:
        ConfigError: The list cannot be written; it is as before.
        OperatingError: A proxy refused.
    """
    path = path or user_quarantine_file()
    try:
        listed = QuarantineFile(path).clear(model, tag, origin(upstream))
    except OSError as exc:
        raise ConfigError(f"{path} cannot be written: {exc}") from exc
    told = [folder for folder, socket in _sockets(runs_dir, data) if await _tell(socket, model, tag, upstream)]
    return ClearResult(listed, tuple(told))


def _sockets(runs_dir: Path, data: Path | None) -> Iterable[tuple[Path, Path]]:
    if data is not None:
        yield data, control_socket(data)
    for run_dir in run_folders(runs_dir):
        if (control := read_control(run_dir)) is not None:
            yield run_dir, control.socket


async def _tell(socket: Path, model: str, tag: str, upstream: str) -> bool:
    client = ControlClient(socket)
    try:
        return await client.clear_quarantine(model, tag, upstream)
    except ControlUnreachableError:
        return False
    finally:
        await client.close()
