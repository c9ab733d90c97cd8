"""What travels on the control socket: names, amounts, secrets, and what a reader makes of them."""

import json

import msgspec
import pytest

from preflight_proxy.base.control_messages import (
    HEARTBEAT,
    AccountSpec,
    Balance,
    EgressSpec,
    FreezeOrder,
    GateSpec,
    LedgerEvent,
    Message,
    NewLimit,
    ServiceSpec,
    TlsSpec,
    TopUp,
    decode,
    encode,
)
from preflight_proxy.core.refusals.outcomes import NONE_YET, refused
from preflight_proxy.core.refusals.refusals import Code
from preflight_proxy.core.secret import Secret
from tests.support.cases import each

GATE = GateSpec(
    "/s/gate.sock",
    (8788, 443, 8789, 3000),
    TlsSpec(443, "certificate", Secret("tls-key")),
    (ServiceSpec("los", 3000, "127.0.0.1:3000"),),
    EgressSpec(8789, ("pypi.org:443",)),
)
SPEC = AccountSpec(limit_pusd=1, token=Secret("pf-token"), key=Secret("sk-or-key"), run="run", gate=GATE)
BALANCE = Balance(
    id="a",
    as_of=7,
    posted_pusd=10**12 + 1,
    available_pusd=-(10**11),
    outcomes=NONE_YET.with_unserved(refused(Code.SPENT, "m/x", 5)),
    frozen="ejected",
    quarantined=("m/x tag",),
    traffic={"los": {"connections": 1}},
)


@each("message", [SPEC, BALANCE, HEARTBEAT, LedgerEvent(type="settled", balance=BALANCE, cost_pusd=10**11)])
def test_a_message_is_read_as_it_was_written(message: Message) -> None:
    assert decode(encode(message), type(message)) == message


def test_amounts_travel_as_exact_dollar_text() -> None:
    wire = json.loads(encode(BALANCE))
    assert (wire["posted_usd"], wire["available_usd"], wire["limit_usd"]) == ("1.000000000001", "-0.1", "0")
    assert not [name for name in wire if name.endswith("_pusd")]
    event = json.loads(encode(LedgerEvent(type="settled", seq=3, account="a", cost_pusd=10**11, balance=BALANCE)))
    assert (event["cost_usd"], event["balance"]["posted_usd"]) == ("0.1", "1.000000000001")


def test_secrets_travel_as_text_and_are_not_printed() -> None:
    wire = json.loads(encode(SPEC))
    assert (wire["token"], wire["key"], wire["gate"]["tls"]["key"]) == ("pf-token", "sk-or-key", "tls-key")
    for secret in ("pf-token", "sk-or-key", "tls-key"):
        assert secret not in f"{SPEC!r} {SPEC}"


@each(
    "body",
    [
        b'{"limit_usd": 1}',
        b'{"limit_usd": 1.5}',
        b'{"limit_usd": true}',
        b'{"limit_usd": null}',
        b'{"limit_usd": "1e3"}',
        b'{"limit_usd": "0.0000000000001"}',
        b'{"limit_pusd": 1}',
        b"{}",
        b"[]",
        b"",
    ],
)
def test_an_amount_that_is_no_exact_dollar_text_is_refused(body: bytes) -> None:
    with pytest.raises((ValueError, msgspec.MsgspecError)):
        decode(body, NewLimit)


@each("more_usd", ["-1", "-0.000000000001", "--1", ""])
def test_a_limit_is_not_lowered_by_a_top_up(more_usd: str) -> None:
    with pytest.raises((ValueError, msgspec.MsgspecError)):
        decode(json.dumps({"more_usd": more_usd}).encode(), TopUp)


@each("key", [5, None, ["sk-or-secret"], {"sk-or-secret": 1}])
def test_a_wrong_secret_is_refused_without_being_repeated(key: object) -> None:
    body = json.dumps({"limit_usd": "1", "token": "pf-secret", "key": key}).encode()
    with pytest.raises(msgspec.ValidationError) as refusal:
        decode(body, AccountSpec)
    assert "secret" not in str(refusal.value)


def test_a_reader_skips_unknown_fields_and_takes_defaults_for_missing_ones() -> None:
    assert decode(b'{"id": "a", "new_field": 1, "new_usd": "0.1"}', Balance) == Balance(id="a")
    assert decode(b'{"id": "a", "new_usd": null}', Balance).keyed
    assert decode(b"{}", FreezeOrder).reason == "frozen by its operator"
    assert decode(b'{"socket": "/s", "ports": [8788]}', GateSpec) == GateSpec("/s", (8788,))


def test_an_event_has_only_the_fields_that_it_has() -> None:
    assert encode(HEARTBEAT) == b'{"type":"heartbeat"}'
    event = LedgerEvent(type="stop", seq=1, account="", run="r", reason="enough")
    assert json.loads(encode(event)) == {"type": "stop", "seq": 1, "account": "", "run": "r", "reason": "enough"}
