"""Small torture runs, in which everything happens that happens in a long one."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from preflight_proxy.base.config import Bound
from tests.drills.stage import stage
from tests.torture.__main__ import exit_code
from tests.torture.driver import Options, torture
from tests.torture.plan import deaths
from tests.torture.proxy import Proxy, ProxyDiedError
from tests.torture.soak import Faults, Soak, soak

pytestmark = [pytest.mark.wire, pytest.mark.timeout(300)]

PATIENCE_S = 10 * 3600.0
"""By a clock that hurries: some minutes of ours."""


@pytest.mark.parametrize("bound", ["measured", "proven"])
async def test_a_lawful_upstream_never_bills_an_account_past_its_limit_whatever_fails_and_dies(
    tmp_path: Path, bound: Bound
) -> None:
    options = Options(calls=600, seed=11, kills=4, bound=bound)
    report = await torture(options, tmp_path)
    assert report.verdict.problems == []
    assert report.verdict.untied == []
    assert exit_code(options, report) == 0
    assert report.kills >= 4
    assert report.verdict.spend_pusd > 0


async def test_a_proxy_that_is_killed_while_its_first_accounts_are_opened_is_started_again(tmp_path: Path) -> None:
    options = Options(calls=60, seed=12, kills=1)
    [death] = deaths(options.calls, options.kills, Random(f"{options.seed}:deaths"))
    # This file is written for each account at its opening: the kill is due before the last of them.
    assert death.step == "budget-file"
    report = await torture(options, tmp_path)
    assert report.kills_by_step == {"before budget-file": 1}
    assert exit_code(options, report) == 0


async def test_a_lawless_upstream_gets_no_further_than_what_it_lied_about(tmp_path: Path) -> None:
    options = Options(calls=900, seed=12, kills=2, profile="lawless", rate=0.5)
    report = await torture(options, tmp_path)
    assert report.verdict.problems == []
    assert report.verdict.overrun_pusd > 0
    assert exit_code(options, report) == 4
    assert report.quarantined > 0


@pytest.mark.parametrize(
    ("faults", "others"),
    [("id", 0), ("no-id", 0), ("no-id", 2)],
    ids=["faults that carry an id", "faults without an id", "other traffic on the key"],
)
async def test_accounts_that_share_a_key_hold_what_was_billed_for_their_calls(
    tmp_path: Path, faults: Faults, others: int
) -> None:
    """Before a proxy that nobody kills, once 35 minutes have passed."""
    asked = Soak(
        3.0, faults=faults, key="foreign", callers=16, others=others, rate=0.4, hurry=240.0, within_s=PATIENCE_S
    )
    report = await soak(asked, tmp_path)
    assert report.verdict.problems == []
    assert exit_code(asked.options, report) == 0
    assert report.verdict.spend_pusd > 0
    assert (report.verdict.unknown_count > 0) is (faults == "no-id")
    assert (report.verdict.assumed_count > 0) is (faults == "no-id")


async def test_a_proxy_that_is_killed_by_a_step_of_its_start_has_died_of_a_kill(tmp_path: Path) -> None:
    async with stage(tmp_path) as play:
        await play.proxy.start()
        await play.open("a", "0.01")
        play.proxy.kill()
        await play.proxy.died()
        with pytest.raises(ConnectionError):
            await play.proxy.start("tests.torture.kill", "budget-file", "before", "1")
        await play.proxy.died()
        await play.proxy.start()


async def test_a_proxy_that_does_not_start_says_why(tmp_path: Path) -> None:
    proxy = Proxy(tmp_path, "http://127.0.0.1:9/api/v1", listen="nowhere")
    try:
        with pytest.raises(ProxyDiedError, match="nowhere"):
            await proxy.start()
    finally:
        await proxy.close()
