"""Of several bounds on the output upstream may read any: whichever it takes, it bills no more than was reserved (M5, M9)."""

import itertools
import json
from collections.abc import Mapping
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrouter_sim import Rule, Scenario, Simulator
from openrouter_sim.base.errors import ApiError
from openrouter_sim.calls.scenario import BoundChoice
from openrouter_sim.catalog.models import show_endpoint
from openrouter_sim.inference import open_call
from openrouter_sim.shapes import SHAPES as UPSTREAM
from preflight_proxy.core.pricing.endpoint import Endpoint, endpoint_from_json
from preflight_proxy.core.pricing.quote import quote
from preflight_proxy.core.shapes import SHAPES
from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.fields import spelling
from preflight_proxy.core.shapes.request_writer import write_request
from preflight_proxy.core.shapes.shape import UnknownFields
from tests.support.cases import each
from tests.support.quote_cases import CHAT, COMPLETIONS, MESSAGES, RESPONSES, read

MODEL = "openai/gpt-4.1-nano"
PROMPTS = {
    "/chat/completions": '"messages":[{"role":"user","content":"hi"}]',
    "/responses": '"input":"hi"',
    "/messages": '"messages":[{"role":"user","content":"hi"}]',
    "/completions": '"prompt":"hi"',
}
SPELLINGS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "maxOutputTokens")
CHOICES: tuple[BoundChoice, ...] = get_args(BoundChoice)
BUDGETS = ("reasoning", "thinking")


def simulator(choice: BoundChoice) -> Simulator:
    """One whose model talks as long as it may."""
    return Simulator(Scenario(bound_choice=choice, replies=(Rule(tokens=3_500),), caching=False))


SIMULATORS = {choice: simulator(choice) for choice in CHOICES}


def endpoints() -> list[Endpoint]:
    model = SIMULATORS["first"].catalog[MODEL]
    found = (endpoint_from_json(MODEL, model.tokenizer, show_endpoint(model, each)) for each in model.endpoints)
    return [endpoint for endpoint in found if endpoint is not None]


ENDPOINTS = endpoints()


def billed_pusd(choice: BoundChoice, path: str, body: bytes) -> int:
    """What the simulator charges for a body; nothing where it refuses it."""
    upstream = SIMULATORS[choice]
    before = upstream.bill().total_usd
    try:
        call = open_call(upstream, UPSTREAM[path], f"Bearer {upstream.inference_key}", body)
    except ApiError:
        return 0
    call.settle(upstream.account, call.tokens.completion, "finished")
    return int((upstream.bill().total_usd - before) * 10**12)


BOUND = st.none() | st.sampled_from([1, 16, 1000, 1500, 3000]) | st.integers(1, 3000)
FIELDS = st.lists(st.tuples(st.sampled_from(SPELLINGS), BOUND), min_size=1, max_size=4)
BUDGET = st.dictionaries(st.sampled_from(["max_tokens", "budget_tokens", "type", "effort"]), BOUND, max_size=2)


PAIRS = list(itertools.permutations(SPELLINGS, 2))


@each("path, unknown, strict", itertools.product(PROMPTS, ("drop", "pass"), ("true", "false")))
def test_of_no_pair_of_bounds_in_any_order_is_more_billed_than_reserved(
    path: str, unknown: UnknownFields, strict: str
) -> None:
    for (first, second), other in itertools.product(PAIRS, ("3000", "null")):
        fields = f'"{first}":{other},"{second}":16,"provider":{{"require_parameters":{strict}}}'
        shape = SHAPES[path]
        request = shape.read(f'{{"model":"{MODEL}",{PROMPTS[path]},{fields}}}'.encode(), unknown)
        made = quote(request, ENDPOINTS)
        assert made.bound == 16
        sent = write_request(request, bound=16, only=made.tags, max_price=made.max_price)
        for choice in CHOICES:
            assert 0 < billed_pusd(choice, path, sent) <= made.worst_pusd(16), (choice, sent)


@given(
    st.sampled_from(sorted(PROMPTS)),
    FIELDS,
    st.dictionaries(st.sampled_from(BUDGETS), BUDGET, max_size=2),
    st.booleans(),
    st.sampled_from(["drop", "pass"]),
    st.integers(1, 3000) | st.none(),
)
def test_whichever_bound_upstream_takes_it_bills_no_more_than_was_reserved(
    path: str,
    fields: list[tuple[str, int | None]],
    budgets: Mapping[str, object],
    strict: bool,
    unknown: UnknownFields,
    clamp: int | None,
) -> None:
    written = [f'"{name}":{json.dumps(value)}' for name, value in (*fields, *budgets.items())]
    provider = f'"provider":{{"require_parameters":{json.dumps(strict)}}}'
    body = f'{{"model":"{MODEL}",{",".join([*written, PROMPTS[path], provider])}}}'.encode()
    shape = SHAPES[path]
    try:
        request = shape.read(body, unknown)
    except BadRequest:
        return
    made = quote(request, ENDPOINTS)
    bound = made.bound if clamp is None else min(clamp, made.bound)
    sent = write_request(request, bound=made.wire_bound(bound), only=made.tags, max_price=made.max_price)
    for choice in CHOICES:
        assert billed_pusd(choice, path, sent) <= made.worst_pusd(bound), (choice, sent)


def sent_bounds(path: str, fields: str, bound: int | None, unknown: UnknownFields = "drop") -> dict[str, object]:
    """What leaves of all spellings of a bound."""
    shape = SHAPES[path]
    request = shape.read(f'{{"model":"a/b",{PROMPTS[path]},{fields}}}'.encode(), unknown)
    sent = json.loads(
        write_request(request, bound=request.bound if bound is None else bound, only=("t",), max_price={})
    )
    return {name: value for name, value in sent.items() if name in SPELLINGS}


@each("path, own", [("/responses", "max_output_tokens"), ("/messages", "max_tokens"), ("/completions", "max_tokens")])
def test_a_bound_in_another_apis_spelling_holds_and_leaves_in_the_apis_own(path: str, own: str) -> None:
    unknown: UnknownFields
    for unknown in ("drop", "pass"):
        for foreign in set(SPELLINGS) - {own}:
            assert sent_bounds(path, f'"{foreign}":70', None, unknown) == {own: 70}
            assert sent_bounds(path, f'"{foreign}":70,"{own}":500', None, unknown) == {own: 70}
            assert sent_bounds(path, f'"{foreign}":null,"{own}":500', None, unknown) == {own: 500}


def test_a_spelling_that_stays_here_is_named_whatever_becomes_of_unknown_fields() -> None:
    body = {"model": "a/b", "messages": [], "max_tokens": 9, "Max-Output-Tokens": 5}
    unknown: UnknownFields
    for unknown in ("drop", "pass"):
        request = read(CHAT, body, unknown)
        assert (request.bound, request.dropped) == (5, ("Max-Output-Tokens",))
        assert b"Max-Output-Tokens" not in write_request(request, bound=5, only=(), max_price={})


STRICT = '"provider":{"require_parameters":true}'


@each(
    "fields, sent",
    [
        ('"max_tokens":50000,"max_completion_tokens":16', {"max_tokens": 16, "max_completion_tokens": 16}),
        ('"max_completion_tokens":16,"max_tokens":50000', {"max_tokens": 16, "max_completion_tokens": 16}),
        ('"max_tokens":50000', {"max_tokens": 50000}),
        ('"max_completion_tokens":16', {"max_completion_tokens": 16}),
        ('"max_completion_tokens":null,"max_tokens":16', {"max_tokens": 16}),
        ('"max_tokens":1,"max_tokens":16', {"max_tokens": 16}),
        ('"max_tokens":1,"max_\\u0074okens":16', {"max_tokens": 16}),
    ],
)
def test_where_parameters_are_required_those_that_the_caller_wrote_leave_equal(
    fields: str, sent: dict[str, int]
) -> None:
    """Another one could exclude the endpoint that it meant."""
    assert sent_bounds("/chat/completions", f"{fields},{STRICT}", None) == sent
    assert sent_bounds("/chat/completions", f"{fields},{STRICT}", 9) == dict.fromkeys(sent, 9)


def test_where_parameters_are_required_and_no_bound_is_asked_for_a_clamp_writes_one() -> None:
    for fields in (STRICT, f'"max_tokens":null,{STRICT}', f'"max_completion_tokens":null,{STRICT}'):
        assert sent_bounds("/chat/completions", fields, 20) == {"max_tokens": 20}


@each("shape", [CHAT, RESPONSES, MESSAGES, COMPLETIONS])
def test_another_bound_makes_another_request(shape: object) -> None:
    path = shape.path  # type: ignore[attr-defined]
    bodies = [f'{{"model":"a/b",{PROMPTS[path]},"max_new_tokens":{bound}}}'.encode() for bound in (5, 6)]
    assert len({SHAPES[path].read(body, "drop").digest for body in bodies}) == 2


@each("name", ["max_tokens", "MAX_TOKENS", "maxTokens", "max-tokens"])
def test_case_and_dashes_make_no_other_spelling(name: str) -> None:
    assert spelling(name) == "maxtokens"


def test_a_budget_of_reasoning_that_is_not_inside_the_bound_is_lowered_even_if_the_bound_is_not() -> None:
    body = {"model": "a/b", "messages": [], "max_tokens": 4000}
    for name, key, shape in (("reasoning", "max_tokens", CHAT), ("thinking", "budget_tokens", MESSAGES)):
        for budget, lowered in ((3999, 3999), (4000, 2976), (50_000, 2976)):
            request = read(shape, {**body, name: {key: budget}})
            sent = json.loads(write_request(request, bound=4000, only=(), max_price={}))
            assert sent[name][key] == lowered
    short = read(CHAT, {**body, "max_tokens": 1500, "reasoning": {"max_tokens": 1500}})
    assert json.loads(write_request(short, bound=1500, only=(), max_price={}))["reasoning"] == {"enabled": False}


@each(
    "path, field",
    itertools.product(
        PROMPTS,
        [
            '"reasoning":{"budget_tokens":5}',
            '"reasoning":{"max_output_tokens":5}',
            '"thinking":{"max_tokens":5}',
            '"thinking":{"budgetTokens":5}',
        ],
    ),
)
def test_a_bound_inside_reasoning_has_one_spelling(path: str, field: str) -> None:
    with pytest.raises(BadRequest, match=r"write its bound as (max|budget)_tokens"):
        sent_bounds(path, field, None, "pass")
