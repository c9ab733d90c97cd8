"""Why calls were not served."""

from agent_preflight.figures.refusals import Refusal
from agent_preflight.figures.run_figures import page_figures
from preflight_proxy.core.refusals.outcomes import Cause
from preflight_proxy.core.refusals.refusals import Source
from tests.support.records import BEGUN_S, a_run, a_trial


def test_refusals_have_their_reasons() -> None:
    cause = Cause("upstream_502", Source.UPSTREAM, "OpenRouter answered with status 502", "m/x", "bad gateway", 4)
    page = page_figures(a_run(a_trial("a-1", base="a", causes=[cause])), BEGUN_S)
    assert page.refusals == (
        Refusal("a-1", "a", "upstream_502", "upstream", 4, "OpenRouter answered with status 502", "bad gateway"),
    )


def test_a_summary_of_nonsense_has_no_refusals() -> None:
    for block in ({"not_served": 5}, {"not_served": [5, "x"]}, 7):
        record = a_run(a_trial("a", has_ledger=False, summary={"preflight": block}))
        assert page_figures(record, BEGUN_S).refusals == ()
        assert page_figures(record, BEGUN_S).table.trials[0].ended_by == ""
