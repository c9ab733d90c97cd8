"""A few rounds of chaos, in which everything is struck that is struck in many; the seeds are those of rounds that hit much."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent_preflight.docker.conftest import base_image
from tests.chaos.rounds import play

__all__ = ["base_image"]

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]


@pytest.mark.parametrize("seed", [3, 7, 9, 11, 12, 16, 24, 35])
async def test_after_a_sweep_nothing_is_left_and_the_books_agree_whatever_died(
    seed: int, tmp_path: Path, base_image: str
) -> None:
    outcome = await play(seed, tmp_path, base_image)
    assert outcome.problems == []


async def test_nothing_is_left_of_portable_gates_either(tmp_path: Path, base_image: str) -> None:
    """A forwarder is struck, then the proxy, then runner and proxy."""
    outcome = await play(68, tmp_path, base_image, "portable")
    assert outcome.problems == []
