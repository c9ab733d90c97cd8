"""The scripted engine and a client of it, and the real one, as the container tests have them."""

from __future__ import annotations

from tests.agent_preflight.docker.conftest import client, engine, scripted, short_dir

__all__ = ["client", "engine", "scripted", "short_dir"]
