"""Bills that are above the estimates raise them, and none lowers them."""

from preflight_proxy.core.pricing.calibration import Calibration
from preflight_proxy.core.pricing.prompt_bound import WRAP_TOKENS, constant_tokens
from preflight_proxy.core.pricing.text_sizes import TextSizes
from preflight_proxy.core.pricing.token_estimate import tokens_at_most
from preflight_proxy.core.pricing.token_factors import AS_ESTIMATED, BY_BYTES, EVIDENCE_BYTES_MIN, TokenFactors
from preflight_proxy.core.shapes.shape import Request
from tests.support.cases import each
from tests.support.quote_cases import chat, endpoint

ENDPOINT, OTHER = endpoint(), endpoint(tag="other")
LONG = "word " * 400
SIZES = TextSizes("claude3", 0, (600_000,))
"""600 tokens are estimated for `ASKED`."""
ASKED = chat(LONG)
MEASURED = tokens_at_most(600_000, "claude3") + WRAP_TOKENS + constant_tokens(ASKED.prompt)
"""The most that may be billed for `ASKED`, by its measured bound."""


def seen(
    factors: TokenFactors,
    billed: int,
    *,
    account: str = "a",
    request: Request = ASKED,
    sizes: TextSizes = SIZES,
    known: int | None = None,
) -> int:
    """Show a bill, and return the factor that the account has then."""
    factors.see(account, ENDPOINT, request.prompt, sizes, known, billed)
    return factors.of(account, ENDPOINT)


def test_nothing_is_raised_before_a_bill() -> None:
    assert TokenFactors().of("a", ENDPOINT) == AS_ESTIMATED


@each(
    "billed, factor",
    [
        (1, AS_ESTIMATED),
        (600, AS_ESTIMATED),
        (601, 1002),
        (660, 1100),
        (900, 1500),
        (MEASURED, -(-MEASURED * 1000 // 600)),
        (MEASURED + 1, BY_BYTES),
    ],
)
def test_a_bill_above_the_estimate_raises_it_and_one_above_the_bound_ends_it(billed: int, factor: int) -> None:
    factors = TokenFactors()
    assert factors.see("a", ENDPOINT, ASKED.prompt, SIZES, None, billed) == factor
    assert factors.of("a", ENDPOINT) == factor


def test_a_raised_estimate_is_not_below_what_was_billed() -> None:
    for billed in range(601, MEASURED):
        factor = seen(TokenFactors(), billed)
        _proven, measured = Calibration().bounds("a", ASKED, ENDPOINT, SIZES, factor)
        assert measured >= billed * 115 // 100


def test_no_bill_lowers_an_estimate() -> None:
    factors = TokenFactors()
    assert [seen(factors, billed) for billed in (700, 1, 650, 720, 700)] == [1167, 1167, 1167, 1200, 1200]
    assert [seen(factors, billed) for billed in (MEASURED + 1, 1, 700)] == [BY_BYTES] * 3


def test_a_bill_says_nothing_of_another_account_or_endpoint() -> None:
    factors = TokenFactors()
    seen(factors, MEASURED + 1)
    assert factors.of("b", ENDPOINT) == AS_ESTIMATED
    assert factors.of("a", OTHER) == AS_ESTIMATED
    assert factors.of("a", endpoint("anthropic/claude-opus-4.5")) == AS_ESTIMATED


def test_a_bill_for_less_than_a_kilobyte_of_new_text_says_nothing() -> None:
    names = len("roleusercontent")
    short, enough = chat("x" * (EVIDENCE_BYTES_MIN - names - 1)), chat("x" * (EVIDENCE_BYTES_MIN - names))
    assert seen(TokenFactors(), 10**6, request=short) == AS_ESTIMATED
    assert seen(TokenFactors(), 10**6, request=enough) == BY_BYTES


def test_a_bill_for_media_says_nothing() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert seen(TokenFactors(), 10**6, request=chat([{"type": "text", "text": LONG}, image])) == AS_ESTIMATED


def test_only_what_was_not_billed_before_counts() -> None:
    """The estimate, the text that there must be, and the bill are those of the messages after the known ones."""
    asked = conversation(LONG, "no", LONG)
    sizes = TextSizes("claude3", 10**9, (10**9, 100_000, 600_000))
    assert seen(TokenFactors(), 770, request=asked, sizes=sizes, known=1) == 1100
    assert seen(TokenFactors(), 10**6, request=conversation(LONG, "no"), sizes=sizes, known=1) == AS_ESTIMATED
    assert seen(TokenFactors(), 10**6, request=asked, sizes=sizes, known=3) == AS_ESTIMATED


def test_tools_are_new_text_where_nothing_is_known() -> None:
    tool = {"type": "function", "function": {"name": "look", "description": LONG}}
    asked = chat("hi", tools=[tool])
    sizes = TextSizes("claude3", 600_000, (1000,))
    assert seen(TokenFactors(), 10**6, request=asked, sizes=sizes) == BY_BYTES
    assert seen(TokenFactors(), 10**6, request=asked, sizes=sizes, known=0) == AS_ESTIMATED


def test_what_the_provider_adds_for_tools_is_no_text_that_was_estimated_too_low() -> None:
    asked = chat(LONG, tools=[{"type": "function", "function": {"name": "look"}}])
    assert seen(TokenFactors(), 600 + 530, request=asked) == AS_ESTIMATED
    assert seen(TokenFactors(), 600 + 530, request=asked, known=0) == 1884


def test_opaque_parts_may_be_billed_by_the_byte() -> None:
    signed = {"role": "assistant", "content": [{"type": "thinking", "thinking": LONG, "signature": "A" * 900}]}
    asked = chat(messages=[signed])
    assert seen(TokenFactors(), MEASURED + 800, request=asked) < BY_BYTES
    assert seen(TokenFactors(), MEASURED + 1000, request=asked) == BY_BYTES


def conversation(*contents: str) -> Request:
    return chat(messages=[{"role": "user", "content": content} for content in contents])
