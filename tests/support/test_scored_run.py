"""The run that tests of figures share has what they are made of."""

from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.scored_run import make_scored_run

pytestmark = pytest.mark.wire


def test_it_has_faults_aborts_a_cache_repeats_and_a_spent_budget_and_equals_the_bill(tmp_path: Path) -> None:
    run = make_scored_run(tmp_path)
    kinds = dict(run.asked("SELECT kind, count(*) FROM entries GROUP BY kind"))
    assert kinds["voided"] == 3
    unseen = run.asked("SELECT count(*) FROM entries WHERE kind = 'posted' AND line ->> '$.ttft_ms' IS NULL")
    assert unseen[0][0] >= 2  # the two of which only the generation's record knows the cost
    assert run.asked("SELECT count(*) FROM entries WHERE line ->> '$.streamed'") == [(4,)]
    assert run.asked("SELECT sum(line ->> '$.cached_tokens') > 0 FROM entries") == [(1,)]
    assert {result.alias for result in run.results} == set(run.billed_usd)
    assert [result.preflight["status"] for result in run.results if result.alias == "sonnet-1"] == ["spent"]
    posted = dict(run.asked("SELECT account, sum(cost_pusd) FROM entries GROUP BY account"))
    assert {alias: Decimal(cost).scaleb(-12) for alias, cost in posted.items()} == dict(run.billed_usd)
