"""Starts of a ledger that are killed at each line of ours in turn; run by the crash tests.

Usage: killed_start.py FOLDER. After each kill the same folder must start; prints how many lines there were.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from preflight_proxy.base.clock import SystemClock
from preflight_proxy.core.ledger.commands import OpenAccount, Post, Reserve
from preflight_proxy.ledger import disk_reserve, file, files, store
from preflight_proxy.ledger.store import Store

OURS = {module.__file__ for module in (store, file, disk_reserve, files)}
"""Modules that touch the folder."""


def start(folder: Path, boot_id: str = "boot 2") -> int:
    """Start and stop as a proxy does; return the posted cost."""
    store = Store(folder / "ledger.sqlite3", clock=SystemClock(), boot_id=boot_id)
    posted_pusd = sum(account.posted_pusd for account in store.state.accounts.values())
    store.close()
    return posted_pusd


def killed_at(line_number: int, folder: Path) -> bool:
    """Start in a child that is killed at the n-th new line of our code; return False if it ended before."""
    child = os.fork()
    if child == 0:
        seen = set[tuple[str, int]]()

        def trace(frame: FrameType, _event: str, _argument: Any) -> Any:
            if frame.f_code.co_filename not in OURS:
                return None
            seen.add((frame.f_code.co_filename, frame.f_lineno))
            if len(seen) == line_number:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        start(folder)
        os._exit(0)
    _pid, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)


def lived(folder: Path) -> None:
    """Make a ledger of another boot whose last commits were lost in a power cut, while their cost lines were kept."""
    store = Store(folder / "ledger.sqlite3", clock=SystemClock(), boot_id="boot 1")
    store.commit(OpenAccount("a", "run", 1000, "token of a"))
    store.commit(Reserve("r", "a", 10, "chat", "m/x", ("t",), 16))
    store.commit(Post("r", 7))
    store.close()
    (folder / "costs.jsonl").write_text('{"entry_id": 1}\n{"entry_id": 2}\n{"entry_id')


def main(place: Path) -> None:
    """Kill starts of a new folder, and of one with an older ledger."""
    for name, posted_pusd in (("new", 0), ("old", 7)):
        for line_number in count(1):
            folder = place / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            if name == "old":
                lived(folder)
            if not killed_at(line_number, folder):
                break
            assert start(folder) == posted_pusd
            if name == "old":
                assert (folder / "costs.jsonl").read_text() == '{"entry_id": 1}\n{"entry_id": 2}\n'
        print(name, line_number - 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
