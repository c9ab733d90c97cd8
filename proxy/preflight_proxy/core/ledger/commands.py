"""What may be asked of the ledger: one frozen dataclass a command, `core.ledger.transition` answers them all."""

from __future__ import annotations

from dataclasses import dataclass

from preflight_proxy.core.ledger.rows import CallFacts
from preflight_proxy.core.refusals.outcomes import Cause

NO_FACTS = CallFacts()


@dataclass(frozen=True, slots=True)
class OpenAccount:
    """Open an account, or bring one that exists to these figures; what is posted and pending stays.

    Attributes:
        token_hash: SHA-256 of the trial token, hex; no two accounts share one.
        key_usage_pusd: the key's usage as read at this opening, in pico-USD; None where it was not read.
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


@dataclass(frozen=True, slots=True)
class SetLimit:
    """Change the limit. Below what is posted and pending it stops new calls and ends none."""

    account: str
    limit_pusd: int


@dataclass(frozen=True, slots=True)
class Freeze:
    """Stop new reservations. A second freeze replaces the reason."""

    account: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unfreeze:
    """Lift a freeze; not the one that waits for the key's usage, which `Recover` lifts."""

    account: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Count a refused call, and why, where that is known; both are durable with the account's next change."""

    account: str
    cause: Cause | None = None


@dataclass(frozen=True, slots=True)
class Conclude:
    """Note what became of a call that we did not refuse; durable with the account's next change.

    Attributes:
        cause: why it was not served; None if it was.
        overtaken: the budget has refused another call since this one was admitted.
    """

    account: str
    cause: Cause | None = None
    overtaken: bool = False


@dataclass(frozen=True, slots=True)
class Reserve:
    """Hold a worst case under an id that was never used.

    Answered by a refusal where it does not fit, the account is frozen or an endpoint is quarantined.
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


@dataclass(frozen=True, slots=True)
class SetGeneration:
    """Note upstream's id for a pending call, and the endpoint that serves it where it is known."""

    reservation_id: str
    generation_id: str
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class MarkUnknown:
    """Note that the outcome of a pending call is unknown from now on; a second mark keeps the first moment.

    Of the facts, the generation id and the endpoint tag are kept.

    Attributes:
        ended_by_s: by when upstream has surely ended the call, where nobody saw it end: its silence counts from then.
    """

    reservation_id: str
    call: CallFacts = NO_FACTS
    ended_by_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Post:
    """End a reservation with the cost that upstream told."""

    reservation_id: str
    cost_pusd: int
    call: CallFacts = NO_FACTS


@dataclass(frozen=True, slots=True)
class Void:
    """End a reservation that provably cost nothing (M13)."""

    reservation_id: str
    reason: str
    call: CallFacts = NO_FACTS


@dataclass(frozen=True, slots=True)
class Assume:
    """End a reservation whose cost upstream never told, at no more than was reserved."""

    reservation_id: str
    cost_pusd: int
    call: CallFacts = NO_FACTS


@dataclass(frozen=True, slots=True)
class Recover:
    """Post what the key's usage shows beyond the books (0: nothing), and lift the freeze that waits for it (M21)."""

    account: str
    cost_pusd: int
    call: CallFacts = NO_FACTS


@dataclass(frozen=True, slots=True)
class Adjust:
    """Correct an assumed cost by a signed amount, once; or, naming no reservation, the account's recovered amount."""

    reservation_id: str | None
    delta_pusd: int
    call: CallFacts = NO_FACTS
    account: str = ""


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Take an endpoint of a model out of use, for every account."""

    model: str
    tag: str
    reason: str


@dataclass(frozen=True, slots=True)
class ClearQuarantine:
    """A person takes an endpoint back into use."""

    model: str
    tag: str


@dataclass(frozen=True, slots=True)
class NoteKeyBase:
    """Keep what a foreign key has used, for the calls that begin from now on; see `KeyBase`."""

    upstream: str
    key_hash: str
    usage_pusd: int
    byok_pusd: int


@dataclass(frozen=True, slots=True)
class LoseKeyBase:
    """The usage of a foreign key is no evidence for the calls of this base any more; a second loss keeps the first reason."""

    key_base: int
    reason: str


Command = (
    OpenAccount
    | SetLimit
    | Freeze
    | Unfreeze
    | Refuse
    | Conclude
    | Reserve
    | SetGeneration
    | MarkUnknown
    | Post
    | Void
    | Assume
    | Recover
    | Adjust
    | Quarantine
    | ClearQuarantine
    | NoteKeyBase
    | LoseKeyBase
)
