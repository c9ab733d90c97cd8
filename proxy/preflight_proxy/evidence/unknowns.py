"""Settles unknown calls by evidence, at start and on a timer (M13, void needs proof).

unknown, with an id ------/generation reports-----------------> posted
unknown, no id, or the id still not found after 120 s
         ------the key's usage shows nothing------------------> voided
         ------the key's usage shows something, or is no
               evidence, and nothing better will come---------> assumed, at most at its reservation
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

import structlog

from preflight_proxy.core.errors import UpstreamError
from preflight_proxy.core.evidence.evidence import GENERATION_S_MAX, KEY_USAGE_LAG_S, NOTHING_PUSD, PostedHistory, judge
from preflight_proxy.core.ledger.commands import Post, Recover
from preflight_proxy.core.ledger.rows import CallFacts, KeyBase, Reservation
from preflight_proxy.evidence.foreign_keys import ForeignKeys
from preflight_proxy.ledger.service import Ledger
from preflight_proxy.upstream.client import Upstream
from preflight_proxy.upstream.evidence_reads import read_generation, read_key_usage_pusd

EVIDENCE_TICK_S = 0.5
"""How often the proxy tries to settle unknown calls."""
POLL_S_MAX = 30.0
"""A generation record is read after 0.5 s, then after pauses that double up to this one."""
KEY_POLLS_PER_LAG = 12
"""A key's usage is read at most this often in the time that it may lag: with the usual lag every 5 s."""
POLLS_AT_ONCE = 8
"""Reads at the same time, so that a minute of failures does not become a flood of requests."""

_log = structlog.get_logger("preflight_proxy.evidence.unknowns")


class UnknownCalls:
    """Settles unknown reservations.

    Args:
        ledger: Has the reservations.
        upstream: Read for generations and usage.
        foreign_keys: Evidence from keys that other programs use too.
        lag_s: How far a key's usage may lag.
        generation_s_max: How long a generation is waited for.
    """

    def __init__(
        self,
        ledger: Ledger,
        upstream: Upstream,
        foreign_keys: ForeignKeys,
        *,
        lag_s: float = KEY_USAGE_LAG_S,
        generation_s_max: float = GENERATION_S_MAX,
    ) -> None:
        self._ledger = ledger
        self._upstream = upstream
        self._lag_s = lag_s
        self._key_poll_s = lag_s / KEY_POLLS_PER_LAG
        self._generation_s_max = generation_s_max
        self._foreign = foreign_keys
        self._history: defaultdict[str | int, PostedHistory] = defaultdict(PostedHistory)
        self._key_read_s: dict[str | int, float] = {}
        self._key_answered_s: dict[str | int, float] = {}
        self._next_poll_s: dict[str, tuple[float, float]] = {}
        self._polls = asyncio.Semaphore(POLLS_AT_ONCE)
        self._started_s = ledger.clock.monotonic_s()

    def begin(self) -> None:
        """Mark all pending calls as unknown: at start none is running, and none was seen to end."""
        for reservation in self._ledger.store.pending():
            if reservation.unknown_since_s is None:
                self._ledger.mark_unknown(reservation, CallFacts(), ended=False)

    async def run(self) -> None:
        """Call `tick` until cancelled."""
        while True:
            await self.tick()
            await asyncio.sleep(EVIDENCE_TICK_S)

    async def tick(self) -> None:
        """Try once to settle every unknown call."""
        if self._ledger.store.poisoned:
            return
        work = [self._settle_account(account_id) for account_id in self._ledger.accounts()]
        work += [self._settle_foreign_key(base) for base in list(self._ledger.store.state.key_bases.values())]
        work.append(self._foreign.keep_figures())
        for failed in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(failed, Exception):  # one account's failure must not stop the others
                _log.error("unknown_calls.failed", error=type(failed).__name__, exc_info=failed)

    async def _settle_account(self, account_id: str) -> None:
        unknown = [r for r in self._ledger.store.pending(account_id) if r.unknown_since_s is not None]
        account = self._ledger.account(account_id)
        self._history[account_id].note(self._now_s(), account.posted_pusd, self._lag_s)
        if self._ledger.account_state(account_id).key is None:
            return
        await asyncio.gather(*map(self._settle_by_generation, unknown))
        await self._settle_by_key(account_id)

    def _now_s(self) -> float:
        return self._ledger.clock.monotonic_s()

    def _age_s(self, reservation: Reservation) -> float:
        since_s = reservation.unknown_since_s
        return 0.0 if since_s is None else self._ledger.clock.epoch_s() - since_s

    # By generation

    def _due(self, reservation_id: str) -> bool:
        due_s, step_s = self._next_poll_s.get(reservation_id, (0.0, EVIDENCE_TICK_S))
        if self._now_s() < due_s:
            return False
        self._next_poll_s[reservation_id] = (self._now_s() + step_s, min(step_s * 2, POLL_S_MAX))
        return True

    async def _settle_by_generation(self, reservation: Reservation) -> None:
        key = self._ledger.account_state(reservation.account).key
        if key is None or reservation.generation_id is None or not self._due(reservation.id):
            return
        async with self._polls:
            record = await read_generation(self._upstream, key, reservation.generation_id)
        if record is not None and reservation.id in self._ledger.store.state.reservations:
            cost_pusd, facts = record
            self._ledger.note_byok(reservation, facts)
            # The record does not say what was quoted: up to the exposure, prompt tokens explain an excess.
            is_miscount = 0 < cost_pusd - reservation.reserved_pusd <= reservation.exposure_pusd
            self._ledger.commit(Post(reservation.id, cost_pusd, facts, is_miscount=is_miscount))
            self._ended(reservation, "posted", cost_pusd)

    # By the key's usage

    async def _settle_by_key(self, account_id: str) -> None:
        account = self._ledger.account(account_id)
        ripe = [r for r in self._ledger.store.pending(account_id) if self._ripe(r) and r.key_base is None]
        recovers = account.usage_unread and not self._ledger.store.pending(account_id)
        if not ripe and not recovers:
            return
        if not account.key_is_own or account.key_usage_base_pusd is None:
            if recovers:
                await self._recover_foreign(account_id)
            self._judge([r for r in ripe if self._is_final(r)], None, last_word=True)
            return
        key = self._ledger.account_state(account_id).key  # None if it was closed while its generations were asked for
        if key is None or not self._may_read(account_id):
            return
        moment_s = self._now_s() - self._lag_s
        try:
            async with self._polls:
                used_pusd = await read_key_usage_pusd(self._upstream, key) - account.key_usage_base_pusd
        except UpstreamError as exc:
            _log.warning("key.unread", account=account_id, why=str(exc))
            self._judge([r for r in ripe if self._is_unread_too_long(r)], None, last_word=True)
            return
        self._key_answered_s[account_id] = self._now_s()
        posted_pusd = self._history[account_id].at(moment_s)
        if ripe and posted_pusd is not None:
            bound_pusd = used_pusd - posted_pusd
            self._judge(ripe, bound_pusd, last_word=False)
            self._judge([r for r in ripe if self._is_final(r)], bound_pusd, last_word=True)
        elif recovers and self._now_s() - self._started_s >= self._lag_s:
            excess_pusd = max(0, used_pusd - self._ledger.account(account_id).posted_pusd)
            self._ledger.commit(Recover(account_id, excess_pusd))
            self._ledger.publish("settled", account_id, outcome="recovered")

    # By a foreign key's usage

    async def _settle_foreign_key(self, base: KeyBase) -> None:
        """Decide the calls of all accounts that began after a foreign key's base was read."""
        state, history = self._ledger.store.state, self._history[base.id]
        history.note(self._now_s(), state.key_posted[base.id].posted_pusd, self._lag_s)
        ripe = [r for r in self._foreign.calls(base) if self._ripe(r)]
        if not ripe:
            return
        if base.lost is not None or self._ledger.byok:
            self._judge([r for r in ripe if self._is_final(r)], None, last_word=True)
            return
        if not self._may_read(base.id):
            return
        moment_s = self._now_s() - self._lag_s
        async with self._polls:
            used_pusd = await self._foreign.used_pusd(base, history.at(moment_s) or 0)
        posted_pusd = history.at(moment_s)
        if used_pusd is not None:
            self._key_answered_s[base.id] = self._now_s()
        if used_pusd is None or posted_pusd is None:
            self._judge([r for r in ripe if self._is_foreign_unread_too_long(r)], None, last_word=True)
            return
        exact = posted_pusd == state.key_posted[base.id].posted_pusd and not self._foreign.includes_others(base, ripe)
        self._judge(ripe, used_pusd - posted_pusd, last_word=exact)
        if not exact:
            self._judge([r for r in ripe if self._overdue(r)], used_pusd - posted_pusd, last_word=True)

    async def _recover_foreign(self, account_id: str) -> None:
        """Open an account on a foreign key after a restart of the machine, once the usage includes every call (M21)."""
        since_start_s = self._now_s() - self._started_s
        if since_start_s >= self._lag_s and self._may_read(account_id):
            async with self._polls:
                is_last_try = since_start_s >= self._generation_s_max + 2 * self._lag_s
                await self._foreign.recover(account_id, is_last_try=is_last_try)

    def _may_read(self, sharers: str | int) -> bool:
        """Whether a key's usage is due to be read again. If so, this read counts from now on."""
        if self._now_s() - self._key_read_s.get(sharers, -self._key_poll_s) < self._key_poll_s:
            return False
        self._key_read_s[sharers] = self._now_s()
        return True

    def _ripe(self, reservation: Reservation) -> bool:
        """Whether the key's usage includes it by now, and no generation record is expected."""
        age_s = self._age_s(reservation)
        waits = reservation.generation_id is not None and age_s < self._generation_s_max
        return reservation.unknown_since_s is not None and age_s >= self._lag_s and not waits

    def _is_final(self, reservation: Reservation) -> bool:
        return self._age_s(reservation) >= self._generation_s_max + self._lag_s

    def _unanswered_s(self, reservation: Reservation) -> float:
        """For how long the key's usage could not be read."""
        return min(
            self._age_s(reservation),
            self._now_s() - self._key_answered_s.get(_key_of_usage(reservation), self._started_s),
        )

    def _is_unread_too_long(self, reservation: Reservation) -> bool:
        """The key's usage could not be read for so long that the whole reservation is assumed."""
        return self._unanswered_s(reservation) >= 2 * (self._generation_s_max + self._lag_s)

    def _overdue(self, reservation: Reservation) -> bool:
        """Unknown for so long that it is settled although other calls with the key never paused."""
        ended_by_s = max(reservation.unknown_since_s or 0.0, reservation.created_at_s + self._ledger.call_s_max)
        return self._ledger.clock.epoch_s() - ended_by_s >= self._generation_s_max + self._lag_s

    def _is_foreign_unread_too_long(self, reservation: Reservation) -> bool:
        """The foreign key's usage could not be read for so long that the whole reservation is assumed."""
        return self._unanswered_s(reservation) >= self._generation_s_max + 2 * self._lag_s

    def _judge(self, unknown: Sequence[Reservation], bound_pusd: int | None, *, last_word: bool) -> None:
        # A foreign key's usage goes on under other calls, so that a little left out here would never show again.
        nothing_pusd = 0 if any(r.key_base is not None for r in unknown) else NOTHING_PUSD
        for verdict in judge(unknown, bound_pusd, last_word=last_word, nothing_pusd=nothing_pusd):
            reservation = verdict.reservation
            if reservation.id not in self._ledger.store.state.reservations:
                continue
            self._ledger.commit(verdict.command)
            self._ended(reservation, "voided" if verdict.cost_pusd is None else "assumed", verdict.cost_pusd or 0)
            if verdict.cost_pusd is not None and bound_pusd is not None:
                self._history[_key_of_usage(reservation)].backdate(verdict.cost_pusd)

    def _ended(self, reservation: Reservation, outcome: str, cost_pusd: int) -> None:
        self._next_poll_s.pop(reservation.id, None)
        _log.info("call.decided", account=reservation.account, reservation=reservation.id, outcome=outcome)
        self._ledger.publish(
            "settled", reservation.account, outcome=outcome, model=reservation.model, cost_pusd=cost_pusd
        )


def _key_of_usage(reservation: Reservation) -> str | int:
    """Which calls share one figure of usage: those of a foreign key's base, or those of the account."""
    return reservation.account if reservation.key_base is None else reservation.key_base
