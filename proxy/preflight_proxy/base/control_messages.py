"""The requests and answers of the control socket: the proxy and its runner write and read these types and no others.

On the wire each message is one JSON object. A field `x_pusd` travels as `x_usd`, which is exact decimal dollars as text, such as
"0.25". A `Secret` travels as its text. A reader skips fields that it does not know; fields that are missing have their defaults.

    GET    /health                   -> Health
    GET    /accounts                 -> AccountList
    POST   /accounts                 NewAccount -> OpenedAccount   a stand-alone proxy's accounts only
    GET    /accounts/{id}            -> Balance
    PUT    /accounts/{id}            AccountSpec -> Balance         a run's accounts only
    PATCH  /accounts/{id}            NewLimit -> Balance
    POST   /accounts/{id}/top-up     TopUp -> Balance
    POST   /accounts/{id}/freeze     FreezeOrder -> Balance
    POST   /accounts/{id}/unfreeze   -> Balance
    DELETE /accounts/{id}            -> Balance
    POST   /stop                     StopOrder -> StopAnswer
    GET    /events                   -> LedgerEvent, one a line
    GET    /quarantine               -> QuarantineList
    DELETE /quarantine               -> ClearAnswer
    any of them, with a status of 400 or more   -> Problem
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec

from preflight_proxy.core.ledger.rows import Account
from preflight_proxy.core.money import exact_pusd, usd_text
from preflight_proxy.core.refusals.outcomes import NONE_YET, Outcomes
from preflight_proxy.core.secret import Secret

UNKNOWN_ACCOUNT = "unknown_account"
"""`Problem.code` of a request that names an account which the proxy does not have."""
SUB_KEY_LIMIT = "sub-key limit"
"""`LedgerEvent.reason` of an account that is frozen because its own key's limit was reached before its budget (M20, refusals)."""


def _wire_name(name: str) -> str:
    return f"{name.removesuffix('_pusd')}_usd" if name.endswith("_pusd") else name


class ControlMessage(msgspec.Struct, frozen=True, rename=_wire_name):
    """One request or answer; write it with `encode`, read it with `decode`."""


# Requests


class TlsSpec(ControlMessage, frozen=True):
    """The port of a gate on which agents find `https://openrouter.ai`, and what proves that name to them, in PEM."""

    port: int
    certificate: str
    key: Secret


class ServiceSpec(ControlMessage, frozen=True):
    """A service that a trial may reach: its name for agents, its port at the gate, and where it is, as `HOST:PORT`."""

    name: str
    port: int
    target: str


class EgressSpec(ControlMessage, frozen=True):
    """The port of an HTTP proxy at the gate, and the places, as `HOST:PORT`, to which it leads."""

    port: int
    allow: tuple[str, ...]


class GateSpec(ControlMessage, frozen=True):
    """Where a trial's gate hands its listeners over, and for which ports.

    Attributes:
        socket: Path of the gate's unix socket; None for a portable gate.
        ports: All ports, in the order in which the gate hands them over. A port that nothing below names serves plain HTTP.
        tls: The port that serves TLS, if any.
        services: The ports that lead to a service each.
        egress: The port that is an HTTP proxy, if any.
        portal_pass: What the forwarder of a portable gate shows; None for a gate that hands over.
    """

    socket: str | None
    ports: tuple[int, ...]
    tls: TlsSpec | None = None
    services: tuple[ServiceSpec, ...] = ()
    egress: EgressSpec | None = None
    portal_pass: Secret | None = None


class AccountSpec(ControlMessage, frozen=True, kw_only=True):
    """An account as it should be opened.

    Attributes:
        limit_pusd: The most that it may spend.
        token: By which its calls are known.
        key: The real key with which its calls leave.
        keep_limit: An account that the ledger knows keeps the limit that it has there: a person may have raised it.
        run: The run's id; empty for an account of a stand-alone proxy.
        key_is_own: The key is this account's alone, so its usage is evidence.
        models: The models that it may call; None for all.
        budget_file: Where its budget.txt is kept; None for no file.
        budget_mode: `"detailed"` or `"simple"`.
        gate: For a trial in a container.
    """

    limit_pusd: int
    token: Secret
    key: Secret
    keep_limit: bool = False
    run: str = ""
    key_is_own: bool = False
    models: tuple[str, ...] | None = None
    budget_file: str | None = None
    budget_mode: str = "simple"
    gate: GateSpec | None = None


class NewAccount(ControlMessage, frozen=True):
    """An account that a stand-alone proxy should open and keep."""

    name: str
    limit_pusd: int


class NewLimit(ControlMessage, frozen=True):
    """The limit that an account should have."""

    limit_pusd: int


class TopUp(ControlMessage, frozen=True):
    """By how much an account's limit should rise; not negative."""

    more_pusd: Annotated[int, msgspec.Meta(ge=0)]


class FreezeOrder(ControlMessage, frozen=True):
    """Why an account should admit no more calls."""

    reason: str = "frozen by its operator"


class StopOrder(ControlMessage, frozen=True):
    """Which trial should end, and why; None for all trials."""

    trial: str | None = None
    reason: str = "stopped by a person"


# Answers


class Balance(ControlMessage, frozen=True, kw_only=True, gc=False):
    """An account at one moment.

    Attributes:
        as_of: Higher than that of every balance which the proxy told before; an answer and an event may overtake each other.
        pending_pusd: Reserved for calls whose cost is not known yet.
        assumed_pusd: The part of posted that OpenRouter never confirmed.
        overrun_pusd: What was billed above reservations.
        calls: Calls that ended in a cost.
        refused: Calls refused so far.
        outcomes: What became of the calls.
        fits_tokens: Tokens of the largest new prompt that fits, for `fits_model`; None before the first call.
        frozen: Why no call is admitted; None if calls are admitted.
        spent: Not even the cheapest call would fit.
        keyed: The proxy has the account's key. Without it, it learns no more about unknown calls.
        gate: `waiting`, `ready`, `lost` or `refused`; None without a gate.
        unknown: Pending calls whose cost OpenRouter has not reported.
        traffic: What went through the services and the egress list, by name: connections, refused, sent and received bytes.
        quarantined: Endpoints that no account uses, as `MODEL TAG`.
    """

    id: str = ""
    as_of: int = 0
    run: str = ""
    limit_pusd: int = 0
    posted_pusd: int = 0
    pending_pusd: int = 0
    available_pusd: int = 0
    assumed_pusd: int = 0
    overrun_pusd: int = 0
    calls: int = 0
    calls_in_flight: int = 0
    refused: int = 0
    outcomes: Outcomes = NONE_YET
    fits_tokens: int | None = None
    fits_model: str | None = None
    frozen: str | None = None
    spent: bool = False
    quarantined: tuple[str, ...] = ()
    keyed: bool = True
    gate: str | None = None
    traffic: Mapping[str, Mapping[str, int]] = {}
    unknown: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    cache_hit_requests: int = 0


def balance_of(account: Account, **live: Any) -> Balance:  # noqa: ANN401 - `Balance` checks them
    """Return an account of the ledger as a balance.

    Args:
        account: The account.
        **live: The fields of the balance that only a running proxy knows.
    """
    return Balance(**{name: getattr(account, name) for name in _OF_ACCOUNT}, **live)


_OF_ACCOUNT = [name for name in Balance.__struct_fields__ if hasattr(Account, name)]


class OpenedAccount(Balance, frozen=True, kw_only=True):
    """An account that a stand-alone proxy has opened, and the token of its calls."""

    api_key: str


class AccountList(ControlMessage, frozen=True):
    """All accounts."""

    accounts: tuple[Balance, ...]


class LedgerEvent(ControlMessage, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One event of the stream; a field that an event does not have is None, and is not on the wire.

    Attributes:
        type: `opened`, `settled`, `refused`, `unserved`, `limit`, `frozen`, `unfrozen`, `closed`, `gate`; of the run and no
            account `stop` and `ledger` (nothing can be written any more); `heartbeat`, which has no other field.
        seq: Its place in the stream; 0 for a heartbeat.
        account: The account's id; empty for an event of the run.
        balance: The account after the event.
        run: Of `stop` and `ledger`: the run.
        trial: Of `stop`: the trial; None for all.
        reason: Of `frozen` and `stop`: why.
        closed: Of `ledger`: why it is closed to changes.
        state: Of `gate`: see `Balance.gate`.
        outcome: Of `settled`: `posted`, `voided`, `assumed` or `recovered`.
        model: Of a call: what it asked for.
        cost_pusd: Of `settled`: what was posted.
        tool_names: Of `settled`: the tools that the answer calls.
        digest: Of `settled`: SHA-256 of the request.
        repeats: Of `settled`: how often in a row the same request came again.
        code, source, text, detail: Of `refused` and `unserved`: see `core.refusals.outcomes.Cause`.
    """

    type: str
    seq: int = 0
    account: str | None = None
    balance: Balance | None = None
    run: str | None = None
    trial: str | None = None
    reason: str | None = None
    closed: str | None = None
    state: str | None = None
    outcome: str | None = None
    model: str | None = None
    cost_pusd: int | None = None
    tool_names: tuple[str, ...] | None = None
    digest: str | None = None
    repeats: int | None = None
    code: str | None = None
    source: str | None = None
    text: str | None = None
    detail: str | None = None


HEARTBEAT = LedgerEvent(type="heartbeat")


class Health(ControlMessage, frozen=True):
    """Who serves the control socket.

    Attributes:
        base_url: The API base of the TCP listener, or None.
    """

    pid: int
    version: str
    base_url: str | None
    upstream: str
    uptime_s: float


class StopAnswer(ControlMessage, frozen=True):
    """The accounts that were frozen."""

    frozen: tuple[str, ...]


class QuarantineList(ControlMessage, frozen=True):
    """Endpoints that no account uses, as (model, tag)."""

    quarantined: tuple[tuple[str, str], ...]


class ClearAnswer(ControlMessage, frozen=True):
    """Whether the endpoint is in use again; False if it belongs to another OpenRouter than the proxy's."""

    cleared: bool


class ProblemFacts(ControlMessage, frozen=True):
    """One word for programs and a sentence for people."""

    code: str
    message: str


class Problem(ControlMessage, frozen=True):
    """Why a request was not carried out."""

    error: ProblemFacts


# The wire

_M = TypeVar("_M", bound=ControlMessage)


def encode(message: ControlMessage) -> bytes:
    """Return the JSON text of a message, secrets included."""
    return msgspec.json.encode(_to_wire(msgspec.to_builtins(message, enc_hook=_revealed)))


def decode(document: bytes, kind: type[_M]) -> _M:
    """Read a message.

    Raises:
        msgspec.MsgspecError: The text is no JSON, or no such message.
        ValueError: An amount is no exact figure in dollars.
    """
    return msgspec.convert(_from_wire(msgspec.json.decode(document)), kind, dec_hook=_sealed)


def _revealed(value: object) -> str:
    assert isinstance(value, Secret)
    return value.reveal()


def _sealed(kind: type, value: object) -> Secret:
    if kind is not Secret or not isinstance(value, str):
        raise TypeError("Expected `str`")  # the value is not repeated: it may be a key
    return Secret(value)


def _to_wire(value: object) -> object:
    if isinstance(value, dict):
        return {
            name: usd_text(item) if name.endswith("_usd") and isinstance(item, int) else _to_wire(item)
            for name, item in value.items()
        }
    return [_to_wire(item) for item in value] if isinstance(value, list | tuple) else value


def _from_wire(value: object) -> object:
    if isinstance(value, dict):
        return {name: _amount(item) if name.endswith("_usd") else _from_wire(item) for name, item in value.items()}
    return [_from_wire(item) for item in value] if isinstance(value, list) else value


def _amount(value: object) -> object:
    """Pico-USD from a dollar text. Any other value stays, except a number, which would be taken for pico-USD."""
    if isinstance(value, int | float):
        raise msgspec.ValidationError('Expected an amount in dollars as text, such as `"0.25"`')
    if not isinstance(value, str):
        return value
    return -exact_pusd(value[1:]) if value.startswith("-") else exact_pusd(value)
