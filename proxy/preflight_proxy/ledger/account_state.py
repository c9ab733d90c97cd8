"""What the process knows of an account beside the ledger. It is not kept across a restart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec
from msgspec.structs import asdict

from preflight_proxy.core.secret import Secret

ACCOUNT_BUSY_S = 60.0
"""An account with another call in this time is busy: a clamp then leaves half of what is available to the others (M9)."""


class RunningCall(Protocol):
    """A running call that a freeze can end."""

    def cut(self, reason: str) -> None:
        """End the client's answer at once, in its API's form. The call is settled afterwards."""


class Traffic(msgspec.Struct):
    """What went through one service, or through egress, since the account was opened in this process.

    Attributes:
        connections: Those that reached their target.
        refused: Those that did not: too many, not allowed, or nobody there.
        sent_bytes: From the agent.
        received_bytes: To the agent.
    """

    connections: int = 0
    refused: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0

    def refuse(self) -> None:
        """Count one that was refused."""
        self.refused += 1

    def document(self) -> dict[str, int]:
        """Return the figures as JSON-ready data."""
        return asdict(self)


class AccountState(msgspec.Struct):
    """One account's state in this process.

    Attributes:
        key: The real key its calls leave with; None until the account is opened in this process.
        running: Calls whose client is still served.
        repeats: How often in a row the same request came again.
        cheapest_pusd: The cheapest quote at the floor of the calls admitted so far.
        is_refused: A call was refused for budget, and none was admitted since: only then is the account called spent, for the
            first quotes of a conversation, which count bytes, say little about the next.
        budget_refusals: How many calls this run's budget has refused.
        traffic: What went through the trial's services and egress, by name.
    """

    key: Secret | None = None
    running: set[RunningCall] = set()
    last_call_at_s: float | None = None
    last_digest: str = ""
    repeats: int = 0
    cheapest_pusd: int | None = None
    is_refused: bool = False
    budget_refusals: int = 0
    gate: str | None = None
    traffic: Mapping[str, Traffic] = {}

    def requested(self, digest: str, now_s: float) -> bool:
        """Remember a request; True if the account had another within `ACCOUNT_BUSY_S`."""
        busy = self.last_call_at_s is not None and now_s - self.last_call_at_s < ACCOUNT_BUSY_S
        self.repeats = self.repeats + 1 if digest == self.last_digest else 0
        self.last_digest, self.last_call_at_s = digest, now_s
        return busy

    def admitted(self, cheapest_pusd: int) -> None:
        """Remember what an admitted call would have cost at the least (M19)."""
        if not self.cheapest_pusd or cheapest_pusd < self.cheapest_pusd:
            self.cheapest_pusd = cheapest_pusd
        self.is_refused = False

    def is_spent(self, room_pusd: int) -> bool:
        """True if, with this much left, not even the cheapest call seen would fit, and one has been refused (M19)."""
        nothing_fits = self.is_refused and self.cheapest_pusd is not None and room_pusd < self.cheapest_pusd
        return room_pusd <= 0 or nothing_fits
