"""Small torture runs, in which everything happens that happens in a long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.__main__ import exit_code
from tests.torture.driver import Options, torture

pytestmark = [pytest.mark.wire, pytest.mark.timeout(300)]


async def test_a_lawful_upstream_never_bills_an_account_past_its_limit_whatever_fails_and_dies(tmp_path: Path) -> None:
    options = Options(calls=600, seed=11, kills=4)
    report = await torture(options, tmp_path)
    assert report.verdict.problems == []
    assert report.verdict.untied == []
    assert exit_code(options, report) == 0
    assert report.kills >= 4
    assert report.verdict.spend_pusd > 0


async def test_a_lawless_upstream_gets_no_further_than_what_it_lied_about(tmp_path: Path) -> None:
    options = Options(calls=600, seed=12, kills=2, profile="lawless", rate=0.3)
    report = await torture(options, tmp_path)
    assert report.verdict.problems == []
    assert report.verdict.overrun_pusd > 0
    assert exit_code(options, report) == 4
    assert report.quarantined > 0
