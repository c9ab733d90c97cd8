"""Why calls are not served is told once for each reason as it happens."""

from msgspec.structs import replace

from agent_preflight.runs.refusal_counts import TOLD_MAX, Refusals
from preflight_proxy.base.control_messages import LedgerEvent
from tests.support.cases import each

UNPRICED = LedgerEvent(
    type="refused",
    code="unpriced",
    source="proxy",
    model="no/price",
    text="This model has no known price, so its cost has no bound.",
)


def test_a_reason_is_told_when_it_first_comes_up() -> None:
    refusals = Refusals()
    told = [refusals.hear(UNPRICED), refusals.hear(replace(UNPRICED, model="other/model"))]
    assert told == ["a call to no/price was refused: This model has no known price, so its cost has no bound.", None]


def test_what_upstream_said_is_told_with_it() -> None:
    event = LedgerEvent(
        type="unserved", code="upstream_404", source="upstream", text="Status 404", detail="no endpoint", model="m/x"
    )
    assert Refusals().hear(event) == "a call to m/x was not served: Status 404: no endpoint"


@each("source", ["budget", "client", "end", "no such source", None])
def test_what_is_no_surprise_and_what_nobody_knows_is_not_told(source: str | None) -> None:
    assert Refusals().hear(replace(UNPRICED, source=source)) is None


def test_an_agent_that_words_wrong_requests_without_end_does_not_fill_the_terminal() -> None:
    refusals = Refusals()
    told = [refusals.hear(replace(UNPRICED, text=f"field {number}")) for number in range(2 * TOLD_MAX)]
    assert sum(each is not None for each in told) == TOLD_MAX
