"""One entry of a run's ledger, read from its cost line. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
from msgspec.structs import replace

from agent_preflight.base.usd import pusd, usd
from preflight_proxy.core.ledger.rows import Entry


class Call(msgspec.Struct, frozen=True, gc=False, rename={"trial": "account", "endpoint": "tag"}):
    """One entry of a run's ledger: a call that ended, or a later correction. Fields as in costs.jsonl (docs/files.md).

    Attributes:
        entry_id: Its number in the ledger, from 1.
        at_s: When its cost was posted, seconds since the epoch; `time` is the same as a datetime.
        trial: The trial's alias; the account of a stand-alone proxy.
        outcome: `posted`, `assumed` or `voided` for a call, `recovered` or `adjusted` for a correction.
        cost_pusd: Whole pico-dollars; `cost_usd` is the same in dollars. A correction may be negative.
        reserved_usd: Dollars that were reserved for the call, exact.
        model: The model that served the call.
        provider: The provider that served it; None if that is not known.
        endpoint: The tag of the endpoint that served it; None if that is not known.
        prompt_tokens: The whole prompt, cached tokens included.
        cached_tokens: Those that were read from a cache.
        cache_write_tokens: Those that were written to a cache.
        completion_tokens: All generated tokens.
        reasoning_tokens: Those of them that were reasoning.
        conversation: An id that calls of one conversation share.
        cache_miss: Why the cache gave less than it could.
        cache_saved_usd: Dollars that caching saved; negative if writing cost more. None if it is not known.
        prices: Dollars per token as they were quoted: `prompt`, `completion`, `cache_read`, `cache_write`. None if not known.
        waited_ms: Milliseconds that the call waited for room in the budget.
        status: OpenRouter's HTTP status.
        ttft_ms: Milliseconds from sending the call to the first byte of its answer.
        duration_ms: Milliseconds from sending the call to the end of its answer.
        api: The API's shape, such as `chat`.
        streamed: Whether the answer was a stream.
        generation_id: OpenRouter's id of the call.
        reservation_id: The reservation that the entry ends or corrects.
        reason: Why it was voided.
        purpose: `weighing` for a call of the proxy's own; empty for the agent's.
        tags: The run's tags.
    """

    entry_id: int = 0
    at_s: float = 0.0
    trial: str = ""
    outcome: str = ""
    cost_pusd: int = 0
    reserved_usd: Decimal = Decimal(0)
    model: str = ""
    provider: str | None = None
    endpoint: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    conversation: str | None = None
    cache_miss: str | None = None
    cache_saved_usd: Decimal | None = None
    prices: Mapping[str, Decimal | None] | None = None
    waited_ms: int = 0
    status: int | None = None
    ttft_ms: int | None = None
    duration_ms: int | None = None
    api: str = ""
    streamed: bool = False
    generation_id: str | None = None
    reservation_id: str | None = None
    reason: str = ""
    purpose: str = ""
    tags: Mapping[str, str] = {}

    @property
    def time(self) -> datetime:
        """When its cost was posted, UTC."""
        return datetime.fromtimestamp(self.at_s, UTC)

    @property
    def cost_usd(self) -> Decimal:
        """Dollars, exact. Those of all entries of a trial add up to what is posted."""
        return usd(self.cost_pusd)

    @property
    def reserved_pusd(self) -> int:
        """What was reserved for it."""
        return pusd(self.reserved_usd)

    @property
    def cache_saved_pusd(self) -> int | None:
        """What caching saved; None if it is not known."""
        return None if self.cache_saved_usd is None else pusd(self.cache_saved_usd)

    @property
    def is_call(self) -> bool:
        """Whether it is a call of the agent with a cost. Not one: a voided call, a correction, a weighing (M3)."""
        return self.has_cost and not self.purpose

    @property
    def has_cost(self) -> bool:
        """Whether it ends a call, of the agent or a weighing, and has its cost and tokens."""
        return self.outcome in ("posted", "assumed")


_DECODER = msgspec.json.Decoder(Call)


def call_of(entry: Entry) -> Call:
    """Return an entry as a call. Of a line that cannot be read, only what the entry says is known."""
    try:
        call = _DECODER.decode(entry.line)
    except msgspec.MsgspecError:
        call = Call()
    known = {"entry_id": entry.entry_id, "at_s": entry.at_s, "trial": entry.account, "cost_pusd": entry.cost_pusd}
    return replace(call, outcome=entry.kind.value, **known)
