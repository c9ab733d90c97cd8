"""A process that serves, and ends by itself once there is nothing left to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from preflight_proxy.app import RunningProxy
from preflight_proxy.base.config import Config
from preflight_proxy.serve import serve_until_stopped

pytestmark = pytest.mark.wire


def test_a_process_that_has_nothing_left_to_do_ends_by_itself(tmp_path: Path) -> None:
    async def say_so(proxy: RunningProxy) -> None:
        proxy.over.set()

    assert serve_until_stopped(Config(data=str(tmp_path), upstream="http://127.0.0.1:9/api/v1"), say_so) == 0
