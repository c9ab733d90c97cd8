"""The commands of the ledger: one frozen struct each; `core.ledger.transition` executes them."""

from __future__ import annotations

import msgspec

from preflight_proxy.core.budget_text import UNLABELLED
from preflight_proxy.core.ledger.rows import CallFacts
from preflight_proxy.core.pricing.fits import PromptRate

NO_FACTS = CallFacts()


class OpenAccount(msgspec.Struct, frozen=True, gc=False):
    """Open an account, or update an existing one; what is posted and pending stays.

    Attributes:
        token_hash: SHA-256 of the trial token, hex; no two accounts share one.
        key_usage_pusd: the key's usage as read now, in pico-USD; None if it was not read.
            Only the first reading with a given key counts.
    """

    account: str
    run: str
    limit_pusd: int
    token_hash: str
    models: tuple[str, ...] | None = None
    key_hash: str = ""
    key_is_own: bool = False
    key_usage_pusd: int | None = None
    budget_file: str | None = None
    budget_mode: str = "simple"


class SetLimit(msgspec.Struct, frozen=True, gc=False):
    """Change the limit. A limit below what is posted and pending stops new calls and ends no call."""

    account: str
    limit_pusd: int


class Freeze(msgspec.Struct, frozen=True, gc=False):
    """Stop new reservations. A second freeze replaces the reason."""

    account: str
    reason: str


class Unfreeze(msgspec.Struct, frozen=True, gc=False):
    """Lift a freeze. A freeze that waits for the key's usage stays; `Recover` lifts it."""

    account: str


class Reserve(msgspec.Struct, frozen=True, gc=False):
    """Reserve a worst case under a new id.

    The answer is a refusal if it does not fit, the account is frozen, an endpoint is quarantined, or the exposure is too large
    beside that of the other pending calls (M24).

    Attributes:
        exposure_pusd: see `Reservation`, as for `purpose` and `cache_read_tokens`.
        rate: see `Account`.
    """

    reservation_id: str
    account: str
    reserved_pusd: int
    api: str
    model: str
    tags: tuple[str, ...]
    bound: int
    streamed: bool = False
    digest: str = ""
    key_base: int | None = None
    exposure_pusd: int = 0
    purpose: str = ""
    rate: PromptRate | None = None
    cache_read_tokens: int = 0


class SetGeneration(msgspec.Struct, frozen=True, gc=False):
    """Note upstream's id of a pending call, and the endpoint that serves it, if known. A second one changes nothing."""

    reservation_id: str
    generation_id: str
    tag: str | None = None


class MarkUnknown(msgspec.Struct, frozen=True, gc=False):
    """Note that the outcome of a pending call is unknown from now on. A second mark keeps the first moment.

    The generation id and the endpoint tag of the facts are kept, unless they were known before.

    Attributes:
        ended_by_s: when upstream has ended the call at the latest, if its end was not seen.
    """

    reservation_id: str
    call: CallFacts = NO_FACTS
    ended_by_s: float = 0.0


class Post(msgspec.Struct, frozen=True, gc=False):
    """End a reservation with the cost that upstream reported.

    Attributes:
        label: what the call was for, for the detailed budget.txt.
        is_miscount: an excess over the reservation comes from prompt tokens alone, at listed prices (M14). Then no endpoint is
            quarantined.
    """

    reservation_id: str
    cost_pusd: int
    call: CallFacts = NO_FACTS
    label: str = UNLABELLED
    is_miscount: bool = False


class Void(msgspec.Struct, frozen=True, gc=False):
    """End a reservation that provably cost nothing (M13 (unknown cost))."""

    reservation_id: str
    reason: str
    call: CallFacts = NO_FACTS


class Assume(msgspec.Struct, frozen=True, gc=False):
    """End a reservation whose cost upstream did not report, at no more than was reserved and exposed."""

    reservation_id: str
    cost_pusd: int
    call: CallFacts = NO_FACTS


class Recover(msgspec.Struct, frozen=True, gc=False):
    """Post what the key's usage shows above the ledger (0: nothing), and lift the freeze that waits for it (M21 (restart))."""

    account: str
    cost_pusd: int
    call: CallFacts = NO_FACTS


class Quarantine(msgspec.Struct, frozen=True, gc=False):
    """Disable an endpoint of a model for every account."""

    model: str
    tag: str
    reason: str


class ClearQuarantine(msgspec.Struct, frozen=True, gc=False):
    """Enable an endpoint again: a person decided so."""

    model: str
    tag: str


class NoteKeyBase(msgspec.Struct, frozen=True, gc=False):
    """Note what a foreign key has used, for the calls that begin from now on; see `KeyBase`."""

    upstream: str
    key_hash: str
    usage_pusd: int
    byok_pusd: int


class KeepKeyFigure(msgspec.Struct, frozen=True, gc=False):
    """Keep what a foreign key has used, for each account that uses it and is not waiting to be compared with it; see `KeyFigure`.

    Attributes:
        usage_pusd: None if it cannot be read. Then only the figures of another upstream are replaced.
    """

    upstream: str
    key_hash: str
    usage_pusd: int | None


class LoseKeyBase(msgspec.Struct, frozen=True, gc=False):
    """Note that the usage of a foreign key is no evidence for the calls of this base. A second loss keeps the first reason."""

    key_base: int
    reason: str


Command = (
    OpenAccount
    | SetLimit
    | Freeze
    | Unfreeze
    | Reserve
    | SetGeneration
    | MarkUnknown
    | Post
    | Void
    | Assume
    | Recover
    | Quarantine
    | ClearQuarantine
    | NoteKeyBase
    | KeepKeyFigure
    | LoseKeyBase
)
