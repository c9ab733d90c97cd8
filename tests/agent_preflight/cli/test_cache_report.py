"""`agent-preflight cache-report`."""

import json
from pathlib import Path

from preflight_proxy.core.ledger.commands import Post
from preflight_proxy.core.ledger.rows import CallFacts
from tests.support.cli_commands import invoke
from tests.support.ledger_on_disk import open_account, open_store, reserve


def keep_books(data: Path) -> None:
    data.mkdir(parents=True, exist_ok=True)
    store = open_store(data)
    open_account(store)
    store.commit(reserve("r"))
    store.commit(Post("r", 10, CallFacts("m/x", prompt_tokens=2000, cache_miss="tools", conversation="c0ffee")))
    store.close()


def test_it_tells_of_the_latest_run(tmp_path: Path) -> None:
    keep_books(tmp_path / "run-1")
    told = invoke("cache-report", "--runs-dir", str(tmp_path))
    assert told.exit_code == 0
    assert "Cache Analytics Report: run-1" in told.output


def test_it_tells_of_a_stand_alone_proxy_too(tmp_path: Path) -> None:
    keep_books(tmp_path)
    told = invoke("cache-report", "--data", str(tmp_path))
    assert told.exit_code == 0
    assert "the tools changed" in told.output


def test_for_machines_it_is_one_object(tmp_path: Path) -> None:
    keep_books(tmp_path)
    told = invoke("cache-report", "--data", str(tmp_path), "--json")
    assert json.loads(told.output)["ledger"]["misses"][0]["reason"] == "tools"


def test_without_any_run_it_says_so_and_exits_with_0(tmp_path: Path) -> None:
    for more, words in (([], "No runs found"), (["--json"], "")):
        told = invoke("cache-report", "--runs-dir", str(tmp_path / "none"), *more)
        assert told.exit_code == 0
        assert words in told.output


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    told = invoke("cache-report", "--data", str(tmp_path / "nope"))
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr.startswith(f"There is no folder {tmp_path / 'nope'}.")
