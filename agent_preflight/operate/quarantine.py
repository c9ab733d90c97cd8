"""Lists and clears what is held against endpoints, of which the user's runs tell one another.

Quarantined ones billed above a call's reservation (M14, overrun): no proxy uses them. Others counted more tokens than estimated:
all proxies multiply their estimates there.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from agent_preflight.runs.folder import read_control
from agent_preflight.sidecar.control_client import ControlClient, ControlUnreachableError
from agent_preflight.sweeping.run_folders import run_folders
from preflight_proxy.base.clock import SystemClock
from preflight_proxy.base.config import origin, user_counts_file, user_quarantine_file
from preflight_proxy.base.data_folder import control_socket
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.ledger.rows import OPENROUTER, QuarantinedEndpoint
from preflight_proxy.ledger.quarantine_file import QuarantineFile
from preflight_proxy.ledger.shared_counts_file import CarriedFactor, carried_factors, clear_factors


class ClearResult(msgspec.Struct, frozen=True):
    """The result of `clear`.

    Attributes:
        listed: The endpoint was on the user's list, or counted more tokens than estimated.
        proxies: Folders of the running proxies that removed it too.
    """

    listed: bool
    proxies: tuple[Path, ...]


def quarantined() -> list[QuarantinedEndpoint]:
    """Return the endpoints on the user's list, sorted."""
    rows = QuarantineFile(user_quarantine_file()).read()
    return sorted(rows, key=lambda row: (row.upstream, row.model, row.tag))


def carried() -> list[CarriedFactor]:
    """Return by how much the estimates of endpoints are multiplied in every run, sorted."""
    return carried_factors(user_counts_file(), SystemClock().epoch_s())


async def clear(
    model: str, tag: str, runs_dir: Path, data: Path | None = None, upstream: str = OPENROUTER
) -> ClearResult:
    """Remove an endpoint from the user's lists, and from the running proxies of the same upstream.

    Args:
        model: The model's id.
        tag: The endpoint's tag, as the list shows it.
        runs_dir: Proxies of its live runs are called.
        data: The data folder of a stand-alone proxy that is called too.
        upstream: The API base that has the endpoint, or its origin.

    Raises:
        ConfigError: A list cannot be written; it is unchanged.
        OperatingError: A proxy refused.
    """
    path = user_quarantine_file()
    try:
        listed = QuarantineFile(path).clear(model, tag, origin(upstream))
        path = user_counts_file()
        listed |= clear_factors(path, model, tag, origin(upstream))
    except OSError as exc:
        raise ConfigError(f"{path} cannot be written: {exc}") from exc
    cleared = [folder for folder, socket in _sockets(runs_dir, data) if await _clear_at(socket, model, tag, upstream)]
    return ClearResult(listed, tuple(cleared))


def _sockets(runs_dir: Path, data: Path | None) -> Iterable[tuple[Path, Path]]:
    if data is not None:
        yield data, control_socket(data)
    for run_dir in run_folders(runs_dir):
        if (control := read_control(run_dir)) is not None:
            yield run_dir, control.socket


async def _clear_at(socket: Path, model: str, tag: str, upstream: str) -> bool:
    try:
        async with ControlClient(socket) as client:
            return await client.clear_quarantine(model, tag, upstream)
    except ControlUnreachableError:
        return False
