"""Runs the proxy as a process until a signal, or until its runner is gone, and writes the ready file."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from preflight_proxy.app import RunningProxy, running
from preflight_proxy.base.atomic_file import write_ready_file
from preflight_proxy.base.config import Config

_log = structlog.get_logger("preflight_proxy.serve")


def serve_until_stopped(config: Config, on_ready: Callable[[RunningProxy], Awaitable[None]] | None = None) -> int:
    """Serve until SIGTERM, SIGINT, or the end of a run whose runner is gone; returns 0.

    Args:
        config: The settings.
        on_ready: Awaited once everything is served; the stand-alone proxy opens its accounts in it.

    Raises:
        OperatingError: It cannot start.
    """
    if sys.platform == "win32":
        asyncio.run(_serve(config, on_ready))
    else:
        import uvloop

        uvloop.run(_serve(config, on_ready))
    return 0


async def _serve(config: Config, on_ready: Callable[[RunningProxy], Awaitable[None]] | None) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    async with running(config, over=over) as proxy:
        if on_ready is not None:
            await on_ready(proxy)
        elif config.ready_file is not None:
            ready: dict[str, object] = {
                "base_url": proxy.base_url,
                "api_key": None,
                "control": config.control,
                "accounts": {},
            }
            if proxy.portal is not None:
                ready["portal"] = proxy.portal
            write_ready_file(Path(config.ready_file), ready)
        gc.freeze()  # what is loaded now stays: no later collection looks at it
        gc.enable()
        _log.info("proxy.ready", base_url=proxy.base_url, control=config.control, upstream=config.upstream)
        await over.wait()
        _log.info("proxy.stopping", calls=len(proxy.tasks))
