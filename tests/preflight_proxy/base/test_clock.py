"""The machine's clocks are what they say: a calendar and a stopwatch."""

import shutil
import subprocess
import sys
import time

import pytest

from preflight_proxy.base.clock import Clock, SystemClock

SLEPT_S = 14 * 3600


def test_the_calendar_counts_from_1970() -> None:
    clock: Clock = SystemClock()
    before_s = time.time()
    assert before_s <= clock.epoch_s() <= time.time()


def test_the_stopwatch_never_goes_back() -> None:
    clock: Clock = SystemClock()
    readings = [clock.monotonic_s() for _ in range(1000)]
    assert readings == sorted(readings)


@pytest.mark.wire
def test_the_stopwatch_went_on_while_the_machine_slept() -> None:
    """A time namespace whose clocks differ by a night, as those of a machine do that slept for one."""
    told = in_a_machine_that_slept(
        "import time; from preflight_proxy.base.clock import SystemClock; print(SystemClock().monotonic_s() - time.monotonic())"
    )
    assert float(told) > SLEPT_S - 1


def in_a_machine_that_slept(program: str) -> str:
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed")
    ran = subprocess.run(
        [unshare, "-r", "-T", "--boottime", str(SLEPT_S), sys.executable, "-c", program], capture_output=True, text=True
    )
    if ran.returncode and "unshare" in ran.stderr:
        pytest.skip("time namespaces are not to be had here")
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
