"""The rows of the ledger: accounts, reservations, entries, quarantined endpoints, bases of foreign keys.

A reservation is pending until an entry ends it, once (M15 (one end)): POSTED, VOIDED, or ASSUMED where upstream never reported a
cost. Ledgers of earlier versions also have entries that correct an assumed cost (ADJUSTED).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from preflight_proxy.core.budget_text import Action
from preflight_proxy.core.pricing.fits import PromptRate, fits_tokens
from preflight_proxy.core.refusals.outcomes import NONE_YET, Outcomes

USAGE_UNREAD = "waiting for the sub-key's usage: the machine has restarted since the last commit"
"""Why an account is frozen after a restart of the machine: its last commits may be lost (M21 (restart))."""
CLOSED = "closed"
"""Why a closed account is frozen: its token is not valid any more."""


class EntryKind(StrEnum):
    """What an entry records; also the ``outcome`` of its cost line."""

    POSTED = "posted"
    VOIDED = "voided"
    ASSUMED = "assumed"
    RECOVERED = "recovered"
    ADJUSTED = "adjusted"


class Account(msgspec.Struct, frozen=True, gc=False):
    """One trial's limit and balances, in pico-USD.

    Attributes:
        posted_pusd: the sum of this account's entries; above the limit only by an overrun or by a true cost that came late.
        pending_pusd: the sum of its pending reservations.
        assumed_pusd: the part of posted that upstream never reported.
        recovered_pusd: the part of posted that the sub-key's usage showed above the entries (M21).
        overrun_pusd: the sum of what was billed above reservations.
        frozen_reason: why a person or the runner froze it; None if neither did. `frozen` includes `usage_unread`.
        usage_unread: the machine restarted, and the sub-key's usage has not been compared since (M21).
        models: the models it may call; None means any.
        token_hash: SHA-256 of its trial token, hex.
        key_hash: SHA-256 of the upstream key, hex.
        key_is_own: only this account uses the key, so its usage is evidence (M13 (unknown cost)).
        key_usage_base_pusd: the key's usage to compare with: its usage now minus this should be posted.
        calls: reservations that ended in a cost, assumed ones included.
        refused: calls that were refused.
        outcomes: how the calls since its token was issued ended.
        prompt_tokens: of all calls together, as `completion_tokens` and those of the cache are.
        cache_hit_requests: calls with a prompt token that came from a cache.
        actions: what the last posted calls were for and cost, newest last.
        actions_count: posted calls.
        byte_counted: "model tag" of the endpoints that billed above a reservation: there its prompts count by their bytes (M14).
        rate: what a new prompt is reserved at where its last call was cheapest; None if it has made none.
        last_entry_s: when its last entry was written, in seconds since the epoch; 0 if it has none.
    """

    id: str
    run: str
    limit_pusd: int
    posted_pusd: int = 0
    pending_pusd: int = 0
    assumed_pusd: int = 0
    recovered_pusd: int = 0
    overrun_pusd: int = 0
    frozen_reason: str | None = None
    usage_unread: bool = False
    models: tuple[str, ...] | None = None
    token_hash: str = ""
    key_hash: str = ""
    key_is_own: bool = False
    key_usage_base_pusd: int | None = None
    budget_file: str | None = None
    budget_mode: str = "simple"
    calls: int = 0
    refused: int = 0
    outcomes: Outcomes = NONE_YET
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    cache_hit_requests: int = 0
    actions: tuple[Action, ...] = ()
    actions_count: int = 0
    last_entry_s: float = 0.0
    byte_counted: tuple[str, ...] = ()
    rate: PromptRate | None = None

    @property
    def available_pusd(self) -> int:
        """Limit minus posted minus pending: what a new reservation may take; below 0 after a lowered limit or an overrun."""
        return self.limit_pusd - self.posted_pusd - self.pending_pusd

    @property
    def fits_tokens(self) -> int | None:
        """The tokens of the largest new prompt that fits now; None without a rate."""
        return None if self.rate is None else fits_tokens(self.rate, self.available_pusd)

    @property
    def fits_model(self) -> str | None:
        """The model of that prompt; None without a rate."""
        return None if self.rate is None else self.rate.model

    @property
    def frozen(self) -> str | None:
        """Why nothing may be reserved; None if the account is not frozen."""
        if self.frozen_reason is not None:
            return self.frozen_reason
        return USAGE_UNREAD if self.usage_unread else None


class Reservation(msgspec.Struct, frozen=True, gc=False):
    """One call's worst case, reserved until its cost is known.

    Attributes:
        id: made by the caller before anything is sent, never used twice.
        model: the model as quoted.
        tags: the endpoint tags that were quoted.
        bound: the output bound that was sent, in tokens.
        created_at_s: seconds since the epoch, like all other moments here.
        digest: SHA-256 of the body as received, hex.
        exposure_pusd: what it can cost above the reservation, if upstream counts more prompt tokens than measured (M24).
        purpose: what it is for, if it is no call of the agent: "weighing"; else empty.
        cache_read_tokens: the most prompt tokens of a call that is reserved with a part of them at the price of a cache read; 0 if
            none is. If upstream counted no more, an excess says that the cache did not have that part.
        key_base: the `KeyBase` of the key that it is sent with, read before this call; None for an account's own key, or if there
            is none.
        seq: its number in the ledger: 1, 2, 3, ...
        generation_id: upstream's id of the call, once known.
        tag: the endpoint that served, once known.
        unknown_since_s: since when upstream should have reported its cost: since its end or, if that was not seen, since
            the latest moment at which it can have ended; None if the outcome is not unknown.
    """

    id: str
    account: str
    reserved_pusd: int
    api: str
    model: str
    tags: tuple[str, ...]
    bound: int
    streamed: bool
    created_at_s: float
    digest: str = ""
    key_base: int | None = None
    seq: int = 0
    exposure_pusd: int = 0
    purpose: str = ""
    cache_read_tokens: int = 0
    generation_id: str | None = None
    tag: str | None = None
    unknown_since_s: float | None = None


class KeyBase(msgspec.Struct, frozen=True):
    """What a foreign key had used before the first call of this ledger that names this base (M13).

    Others use the key too, so its usage is only an upper bound: these calls have cost together at most its usage now minus this.

    Attributes:
        id: 1, 2, 3, ...
        upstream: the API base of the OpenRouter that counts it.
        key_hash: SHA-256 of the key, hex.
        usage_pusd: its usage of all time.
        byok_pusd: what provider keys of the user's own were billed; once that grows, usage proves nothing.
        at_s: when it was read.
        lost: why its usage is no evidence any more; None while it is one.
    """

    id: int
    upstream: str
    key_hash: str
    usage_pusd: int
    byok_pusd: int
    at_s: float
    lost: str | None = None


class KeyFigure(msgspec.Struct, frozen=True, gc=False):
    """What the foreign key of an account had used at one moment: the last figure that was kept (M21 (restart)).

    Attributes:
        upstream: the API base of the OpenRouter that counts it.
        key_hash: SHA-256 of the key, hex.
        usage_pusd: its usage of all time, BYOK included; None if it could not be read.
        posted_pusd: what the account had posted then, without recovered amounts.
        at_s: when it was read.
    """

    account: str
    upstream: str
    key_hash: str
    usage_pusd: int | None
    posted_pusd: int
    at_s: float


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One immutable entry of the ledger.

    Attributes:
        entry_id: 1, 2, 3, ... without a gap.
        reservation_id: the reservation that it ends or corrects; None for a recovered amount.
        cost_pusd: signed; the sum of an account's entries is its posted amount.
        line: the line of costs.jsonl, without newline.
    """

    entry_id: int
    reservation_id: str | None
    account: str
    kind: EntryKind
    cost_pusd: int
    at_s: float
    line: str


OPENROUTER = "https://openrouter.ai"
"""The upstream of rows that name none."""


class QuarantinedEndpoint(msgspec.Struct, frozen=True):
    """An endpoint that billed above a reservation (M14 (overrun)); no account uses it until a person clears it.

    Attributes:
        upstream: The origin of the API that has this endpoint: what a simulator bills says nothing about OpenRouter's endpoints.
    """

    model: str
    tag: str
    reason: str
    at_s: float
    upstream: str = OPENROUTER


class CallFacts(msgspec.Struct, frozen=True, gc=False):
    """What upstream reported about a call; every field may be missing.

    Attributes:
        model: the model that served, where it differs from the quoted one.
        tag: the endpoint that served.
        prompt_tokens: includes cached ones, in every API shape.
        status: upstream's HTTP status.
        ttft_ms: milliseconds from the first byte sent to the first byte of the answer's body.
        duration_ms: milliseconds from the first byte sent to the end.
        conversation: an id that calls of one conversation share; empty where there is none.
        cache_miss: why the cache gave less than it could; empty if it gave enough, or nothing is known.
        cache_saved_pusd: what caching saved on this call, negative if writing cost more; None if it is not known.
        is_byok: it ran on a provider key of the caller's own.
        prices: dollars per token of the endpoint that served, as it was quoted: a JSON object; None if it is not known.
        waited_ms: milliseconds that it waited for other calls to settle before it was reserved.
    """

    model: str = ""
    provider: str | None = None
    generation_id: str | None = None
    tag: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    status: int | None = None
    ttft_ms: int | None = None
    duration_ms: int | None = None
    conversation: str = ""
    cache_miss: str = ""
    cache_saved_pusd: int | None = None
    is_byok: bool = False
    prices: msgspec.Raw | None = None
    waited_ms: int = 0
