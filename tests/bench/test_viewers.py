"""The measure of what viewers cost: it loads the proxy, and the viewers get what it posts."""

from pathlib import Path

import pytest

from tests.bench.viewers import measure

pytestmark = pytest.mark.wire


def test_the_proxy_is_measured_without_viewers_and_with_them(tmp_path: Path) -> None:
    [(alone, viewed)] = measure(1, 1.0, tmp_path)
    assert min(alone.calls, viewed.calls) >= 16
    assert min(alone.cpu_us, viewed.cpu_us) > 0
    assert (alone.updates, viewed.updates >= 10) == (0, True)
    assert viewed.ui_cpu_s > 0
