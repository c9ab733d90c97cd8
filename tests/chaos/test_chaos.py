"""A few rounds of chaos. Their seeds are those of rounds with many hits, and together they hit everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent_preflight.docker.conftest import base_image
from tests.chaos.rounds import play

__all__ = ["base_image"]

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]


@pytest.mark.parametrize("seed", [3, 7, 9, 11, 12, 16, 24, 35])
async def test_after_a_sweep_nothing_is_left_and_the_ledger_agrees_with_the_bill(
    seed: int, tmp_path: Path, base_image: str
) -> None:
    outcome = await play(seed, tmp_path, base_image)
    assert outcome.problems == []


async def test_nothing_is_left_of_portable_gates_either(tmp_path: Path, base_image: str) -> None:
    """A forwarder is killed, then the proxy, then runner and proxy."""
    outcome = await play(68, tmp_path, base_image, "portable")
    assert outcome.problems == []
