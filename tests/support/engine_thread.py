"""A scripted engine for code that is not async. It serves in a thread, and DOCKER_HOST can name it.

with serve_in_thread(short_dir / "engine.sock") as engine:
    monkeypatch.setenv("DOCKER_HOST", engine.url)
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.scripted_engine import ScriptedEngine

GUARD_S = 60.0


@contextmanager
def serve_in_thread(path: Path | None = None) -> Iterator[ScriptedEngine]:
    """Serve a scripted engine in a thread: at a socket, or at a port if there is no path.

    A test may read and change it at any time when no call is under way. What wakes a call that hangs (`unscript`, `exit`,
    `called`) belongs to the engine's own loop: that is for tests that are async.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    engine = ScriptedEngine(path, tcp=path is None)
    asyncio.run_coroutine_threadsafe(engine.start(), loop).result(GUARD_S)
    try:
        yield engine
    finally:
        asyncio.run_coroutine_threadsafe(engine.__aexit__(None, None, None), loop).result(GUARD_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(GUARD_S)
        loop.close()


@pytest.fixture
def docker_host(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedEngine]:
    """A scripted engine without containers, which DOCKER_HOST names."""
    with tempfile.TemporaryDirectory(prefix="ap-") as short, serve_in_thread(Path(short, "engine.sock")) as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.url)
        yield engine


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An address without an engine, which DOCKER_HOST names."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    return f"unix://{tmp_path}/none.sock"
