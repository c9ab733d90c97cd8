"""Before a run goes on, whatever of it still acts is ended; a live run is never touched."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from agent_preflight.runs.folder import open_named
from agent_preflight.sweeping import Item, Swept
from agent_preflight.sweeping.leftovers import check_gone, end_earlier
from preflight_proxy.core.errors import ConfigError


async def test_a_live_run_is_never_touched(tmp_path: Path) -> None:
    with ExitStack() as held:
        run_dir = held.enter_context(open_named(tmp_path, "r", ["a"])).path
        with pytest.raises(ConfigError, match="going on"):
            await end_earlier(run_dir, ["a"], print)


async def test_a_dead_run_that_left_nothing_is_no_work(tmp_path: Path) -> None:
    said: list[str] = []
    with open_named(tmp_path, "r", ["a"]) as folder:
        run_dir = folder.path
    await end_earlier(run_dir, ["a"], said.append)
    await end_earlier(tmp_path / "never", ["a"], said.append)
    assert said == []


@pytest.mark.parametrize(("kind", "in_the_way"), [("agent", True), ("gate", True), ("proxy", True), ("sub-key", False)])
def test_what_still_acts_is_in_the_way_and_what_only_exists_is_not(tmp_path: Path, kind: str, in_the_way: bool) -> None:
    mine, other = (Swept(left=(Item(kind, "x", tmp_path / name),)) for name in ("r", "other"))
    check_gone(tmp_path / "r", other)
    if not in_the_way:
        check_gone(tmp_path / "r", mine)
        return
    with pytest.raises(ConfigError, match=f"{kind} x"):
        check_gone(tmp_path / "r", mine)
