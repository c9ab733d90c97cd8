"""Who made a container."""

from __future__ import annotations

import os

from agent_preflight.docker.owner import this_process


def test_an_owner_is_boot_process_and_start_time() -> None:
    boot, pid, start = this_process().split(":")
    assert boot
    assert int(pid) == os.getpid()
    assert start == "-" or int(start) > 0
