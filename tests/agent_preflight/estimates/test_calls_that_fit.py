"""How many calls a budget affords: the proxy's quote and its admission, and no arithmetic beside them."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from agent_preflight.base.usd import pusd
from agent_preflight.estimates.calls_that_fit import (
    CALLS_COUNTED_MAX,
    EXPECT_TOKENS,
    Estimate,
    advice,
    calls_text,
    estimate,
    rounded_up,
)
from preflight_proxy.core.admission.admission import Admission, admit
from preflight_proxy.core.ledger.rows import Account
from preflight_proxy.core.pricing.endpoint import Endpoint
from preflight_proxy.core.pricing.fits import FIXED_TOKENS
from preflight_proxy.core.pricing.prompt_bound import BYTES_PER_TOKEN
from preflight_proxy.core.pricing.quote import Quotes, quote
from tests.support.cases import each
from tests.support.quote_cases import chat, endpoint

SONNET = "anthropic/claude-sonnet-4.5"


def of(budget: str, *endpoints: Endpoint, **options: object) -> Estimate:
    return estimate(SONNET, pusd(budget), endpoints or (endpoint(),), **options)  # type: ignore[arg-type]


def test_proven_is_the_quote_of_a_call_with_that_many_bytes() -> None:
    """A real request of the same size, read by the proxy's own shape, has the same quote, but for the names of its fields."""
    text = "x" * (BYTES_PER_TOKEN * EXPECT_TOKENS)
    body = [{"role": "system", "content": text}, {"role": "user", "content": ""}]
    same = quote(chat(messages=body, max_tokens=4096), [endpoint()])
    found = of("1", max_tokens=4096, bound="proven")
    assert same.prompt_tokens - 100 <= found.prompt_tokens <= same.prompt_tokens
    assert found.prompt_tokens > 2 * BYTES_PER_TOKEN * EXPECT_TOKENS  # a byte of Claude's can be two tokens


def test_measured_counts_each_token_with_the_margin_of_the_models_family() -> None:
    found = of("1", max_tokens=4096)
    assert found.prompt_tokens == FIXED_TOKENS + EXPECT_TOKENS * 115 // 100
    assert found.worst_pusd < of("1", max_tokens=4096, bound="proven").worst_pusd // 2


@each("bound", ["measured", "proven"])
def test_the_largest_new_prompt_is_the_largest_whose_floor_fits(bound: str) -> None:
    largest = of("0.25", bound=bound).fits_tokens
    assert of("0.25", expect_tokens=largest, bound=bound).calls == 1
    assert of("0.25", expect_tokens=largest + 2, bound=bound).calls == 0


def test_a_small_budget_does_not_pay_for_a_large_agent_on_an_expensive_model() -> None:
    found = of("0.08")
    assert (found.calls, found.first_bound, found.is_low) == (0, None, True)
    assert found.budget_pusd < found.least_pusd < found.worst_pusd
    assert found.least_pusd == of("0.08", max_tokens=1024).worst_pusd
    assert of("0.08", expect_tokens=2000).calls > 0
    assert of("0.25").calls > 0 == of("0.25", bound="proven").calls


def test_exactly_the_least_admits_one_call_at_the_floor_and_a_pico_dollar_less_none() -> None:
    least_pusd = of("1").least_pusd
    exactly, below = (estimate(SONNET, amount, [endpoint()]) for amount in (least_pusd, least_pusd - 1))
    assert (exactly.calls, exactly.first_bound, exactly.floor) == (1, 1024, 1024)
    assert (below.calls, below.first_bound) == (0, None)


def test_a_call_that_fits_only_with_a_lower_bound_counts_with_that_bound() -> None:
    found = of("0.5")
    assert found.calls == 1
    assert found.first_bound is not None
    assert 1024 < found.first_bound < found.bound == 64_000
    assert found.worst_pusd > found.budget_pusd


def test_the_calls_after_the_first_are_clamped_as_those_of_a_busy_account() -> None:
    """Of what a whole call leaves, one that follows within a minute takes half, at last its least."""
    one = of("5", expect_tokens=1000)
    budget_pusd = one.worst_pusd + 14 * one.least_pusd
    found = estimate(SONNET, budget_pusd, [endpoint()], expect_tokens=1000)
    assert (found.first_bound, found.calls) == (64_000, 1 + len([7, 3.5, 1.75, 1]))


def test_five_worst_cases_are_enough_for_five_calls_and_are_no_warning() -> None:
    needed_pusd = of("1").enough_pusd
    enough = estimate(SONNET, needed_pusd, [endpoint()])
    assert (enough.calls >= 5, enough.is_low, advice(enough)) == (True, False, "")
    assert needed_pusd == 5 * enough.worst_pusd
    four = of("1.5")
    assert (four.calls, four.is_low) == (4, True)


@given(st.integers(0, 20), st.integers(0, 100_000), st.one_of(st.none(), st.integers(1, 100_000)))
def test_each_call_that_is_counted_is_one_that_the_proxy_admits(dollars: int, tokens: int, bound: int | None) -> None:
    """Spending each reservation in full, the proxy's own rule admits as many calls."""
    two = [endpoint(), endpoint(tag="dear", pricing={"prompt": "0.00001", "completion": "0.00005"})]
    found = estimate(SONNET, pusd(dollars), two, expect_tokens=tokens, max_tokens=bound, bound="proven")
    limits = {} if bound is None else {"max_tokens": bound}
    text = "x" * (BYTES_PER_TOKEN * tokens)
    made = quote(chat(messages=[{"role": r, "content": c} for r, c in (("system", text), ("user", ""))], **limits), two)
    account = Account("a", "r", pusd(dollars))
    for count in range(found.calls):
        decision = admit(account, Quotes.of(made), busy=count > 0, has_unknown=False, waited_s=0)
        assert isinstance(decision, Admission)
        account = structs.replace(account, posted_pusd=account.posted_pusd + decision.reserve_pusd)


def test_the_count_of_free_calls_ends_at_a_maximum() -> None:
    prices = ("prompt", "completion", "input_cache_read", "input_cache_write", "input_cache_write_1h")
    free = of("0.25", endpoint(pricing=dict.fromkeys(prices, "0")))
    assert (free.calls, free.worst_pusd, free.is_low) == (CALLS_COUNTED_MAX, 0, False)
    assert calls_text(free) == "1,000 calls or more"


def test_the_fee_for_provider_keys_is_in_the_worst_case() -> None:
    plain, byok = of("1"), of("1", byok=True)
    assert plain.worst_pusd < byok.worst_pusd <= plain.worst_pusd * 105 // 100 + 2


@each("model", ["openrouter/auto", "openai/gpt-4o:online", "", "no model", "@preset/x"])
def test_a_model_that_the_proxy_refuses_has_no_calls(model: str) -> None:
    found = estimate(model, pusd(100), [endpoint()])
    assert (found.calls, found.is_low) == (0, True)
    assert found.why_none
    assert advice(found) == "take another model"


def test_a_model_without_an_endpoint_has_no_calls() -> None:
    found = estimate(SONNET, pusd(100), [])
    assert (found.calls, bool(found.why_none)) == (0, True)


@each(
    "amount, text",
    [
        ("0", "$0.00"),
        ("1.381", "$1.39"),
        ("1.38", "$1.38"),
        ("0.02110001", "$0.0212"),
        ("0.0211", "$0.0211"),
        ("250", "$250.00"),
        ("0.000000000001", "$0.00000000000100"),
    ],
)
def test_a_shown_amount_is_rounded_up(amount: str, text: str) -> None:
    assert rounded_up(pusd(amount)) == text
    assert Decimal(text[1:]) >= Decimal(amount)


@each("count, text", [(0, "no call"), (1, "1 call"), (2, "2 calls"), (999, "999 calls"), (1000, "1,000 calls or more")])
def test_a_count_is_shown_in_words(count: int, text: str) -> None:
    assert calls_text(Estimate("m", 1, 1, calls=count)) == text


def test_the_advice_names_a_sufficient_budget_and_a_smaller_bound_only_if_it_helps() -> None:
    asks_most = of("0.25")
    assert advice(asks_most) == (
        f"raise the budget to {rounded_up(asks_most.enough_pusd)} for 5 calls, take a cheaper model, "
        "or have the agent ask for a smaller max_tokens"
    )
    assert "max_tokens" not in advice(of("0.25", max_tokens=1000))


def test_the_json_has_exact_dollars_as_text() -> None:
    document = of("0.05", max_tokens=1000).to_json()
    assert (document["budget_usd"], document["model"], document["calls"], document["first_bound"]) == (
        "0.05",
        SONNET,
        0,
        None,
    )
    assert pusd(document["worst_usd"]) == of("0.05", max_tokens=1000).worst_pusd
    assert not [name for name in document if name.endswith("_pusd")]
