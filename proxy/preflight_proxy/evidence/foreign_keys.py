"""Evidence from keys that other programs use too (M13, void needs proof): their usage before the first call, and since.

Other programs may use such a key as well, so its usage is an upper bound: what the calls of this ledger that began after the base
was read have cost together is at most

    usage now - base - what these calls posted a lag ago

While calls run, its usage is also read and kept each minute. A machine that loses power may lose the last commits. After that, an
account is charged at most what the usage shows above the ledger since the last figure (M21, the ledger file).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from preflight_proxy.core.errors import LedgerError, UpstreamError
from preflight_proxy.core.evidence.evidence import KEY_USAGE_LAG_S, ROUNDING_PUSD, lost_at_most
from preflight_proxy.core.ledger.commands import KeepKeyFigure, LoseKeyBase, NoteKeyBase, Recover
from preflight_proxy.core.ledger.rows import Account, KeyBase, KeyFigure, Reservation
from preflight_proxy.core.secret import Secret
from preflight_proxy.ledger.service import Ledger
from preflight_proxy.upstream.client import Upstream
from preflight_proxy.upstream.evidence_reads import KeyRecord, read_key

FIGURE_S = 60.0
"""While calls run, and once more when the usage includes them, a key's usage is kept this often."""

_log = structlog.get_logger("preflight_proxy.evidence.foreign_keys")


class ForeignKeys:
    """Reads foreign keys.

    Args:
        ledger: The accounts, their calls and the bases.
        upstream: The OpenRouter that counts the usage.
        lag_s: How far a key's usage may lag.

    Attributes:
        on_limit: Called once each time that a key's own limit is reached, with the time of its reset in ISO 8601, or None.
        on_recovered: Called with an account and the cost that it was charged after a restart of the machine.
    """

    def __init__(self, ledger: Ledger, upstream: Upstream, *, lag_s: float = KEY_USAGE_LAG_S) -> None:
        self._ledger = ledger
        self._upstream = upstream
        self._lag_s = lag_s
        self._reading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._failed_s: dict[str, float] = {}
        self._records: dict[str, tuple[float, KeyRecord]] = {}
        self._limits: set[tuple[str, str | None]] = set()
        self._highest_pusd: dict[int, int] = {}
        self.on_limit: Callable[[str | None], None] = lambda _resets_at: None
        self.on_recovered: Callable[[str, int], None] = lambda _account, _cost_pusd: None

    async def ready(self, account_id: str) -> None:
        """Before a call: read and keep what the account's key has used, if it is foreign and has no base or no figure yet.

        There is no base where `/key` cannot be read: then the call is no part of the evidence, and a later call brings a base. But
        only while no call with that key is undecided here, and none has ended within the lag: what they cost would be in no base
        and in no bound. Never raises.
        """
        account = self._ledger.store.state.accounts[account_id]
        key_hash = account.key_hash
        if account.key_is_own or (self._figure(account_id) is not None and self._has_base(key_hash)):
            return
        if (key := self._ledger.account_state(account_id).key) is None:
            return
        async with self._reading[key_hash]:
            failed_s = self._failed_s.get(key_hash)
            failed_just_now = failed_s is not None and self._ledger.clock.monotonic_s() - failed_s < self._lag_s
            try:
                lacks_base = not self._has_base(key_hash) and self._is_quiet(key_hash)
                if not failed_just_now and (lacks_base or self._figure(account_id) is None):
                    await self.read(key, key_hash)
            except LedgerError:
                return  # the ledger takes no reservation: the call is refused there

    async def read(self, key: Secret, key_hash: str) -> KeyRecord | None:
        """Read a foreign key, and keep its usage: as a figure, and as a base if it has none and every call with it is settled.

        Returns:
            OpenRouter's record of the key; None if it cannot be read.

        Raises:
            LedgerError: The usage cannot be kept.
        """
        record, now_s = await self._record(key), self._ledger.clock.monotonic_s()
        upstream = self._ledger.upstream
        if record is None:
            self._failed_s[key_hash] = now_s
            self._ledger.commit(KeepKeyFigure(upstream, key_hash, None))
            return None
        self._records[key_hash] = (now_s, record)
        self._ledger.commit(KeepKeyFigure(upstream, key_hash, record.usage_pusd + record.byok_pusd))
        if not self._has_base(key_hash) and self._is_quiet(key_hash):
            self._ledger.commit(NoteKeyBase(upstream, key_hash, record.usage_pusd, record.byok_pusd))
        return record

    async def keep_figures(self) -> None:
        """Keep what each foreign key has used, if its last figure is a minute old and calls with it have run since.

        Raises:
            LedgerError: A figure cannot be kept.
        """
        for account in list(self._ledger.accounts().values()):
            key, figure = self._ledger.account_state(account.id).key, self._figure(account.id)
            if key is None or figure is None or not self._has_moved(account, figure):
                continue
            read_s = max(self._failed_s.get(account.key_hash, 0.0), self._records.get(account.key_hash, (0.0, None))[0])
            if self._ledger.clock.monotonic_s() - read_s >= FIGURE_S:
                await self.read(key, account.key_hash)

    def _has_moved(self, account: Account, figure: KeyFigure) -> bool:
        """Whether calls of the account run, or have ended so late that the figure may not include them."""
        return bool(self._ledger.store.pending(account.id)) or account.last_entry_s > figure.at_s - self._lag_s

    def _figure(self, account_id: str) -> KeyFigure | None:
        """The last figure of an account's foreign key; None if there is none of this upstream."""
        figure = self._ledger.store.state.key_figures.get(account_id)
        return figure if figure is not None and figure.upstream == self._ledger.upstream else None

    async def recover(self, account_id: str, *, is_last_try: bool) -> None:
        """Charge an account what it may have lost with the last commits before a restart of the machine, and open it (M21).

        With several accounts on the key it is not known whose the lost calls were: each is charged for all of them.

        Args:
            account_id: Nothing of it is pending, and the key's usage includes all of its calls.
            is_last_try: The usage could not be read for so long that all that is left is charged.

        Raises:
            LedgerError: It cannot be committed.
        """
        key = self._ledger.account_state(account_id).key
        record = None if key is None else await self._record(key)
        account = self._ledger.account(account_id)
        if not account.usage_unread or (record is None and not is_last_try):
            return
        users = [user for user in self._ledger.accounts().values() if user.key_hash == account.key_hash]
        figures = [(user, figure) for user in users if (figure := self._figure(user.id)) is not None]
        usage_pusd = None if record is None else record.usage_pusd + record.byok_pusd
        cost_pusd = lost_at_most(account, figures, usage_pusd)
        if (base := self._ledger.store.state.base_of(self._ledger.upstream, account.key_hash)) is not None:
            self._lose(base, "the machine restarted")
        self._ledger.commit(Recover(account_id, cost_pusd))
        self._ledger.publish("settled", account_id, outcome="recovered", cost_pusd=cost_pusd)
        if cost_pusd:
            _log.warning("key.recovered", account=account_id, cost_pusd=cost_pusd, may_include="other users of the key")
            self.on_recovered(account_id, cost_pusd)

    async def _record(self, key: Secret) -> KeyRecord | None:
        try:
            return await read_key(self._upstream, key)
        except UpstreamError as exc:
            _log.warning("key.unread", why=str(exc))
            return None

    async def limit_reached(self, account_id: str) -> str | None:
        """Note that OpenRouter refused a call because of the limit of an account's foreign key. Nothing is frozen (M20).

        Returns:
            When the limit starts again, in ISO 8601; None if it does not, or OpenRouter does not say.

        Raises:
            LedgerError: What the key has used cannot be kept.
        """
        key, key_hash = self._ledger.account_state(account_id).key, self._ledger.account(account_id).key_hash
        read_s, record = self._records.get(key_hash, (0.0, None))
        if key is not None and (record is None or self._ledger.clock.monotonic_s() - read_s >= self._lag_s):
            record = await self.read(key, key_hash)
        resets_at = None if record is None else next_reset(record.limit_reset, self._ledger.clock.epoch_s())
        _log.warning("key.limit_reached", account=account_id, resets_at=resets_at)
        if (key_hash, resets_at) not in self._limits:
            self._limits.add((key_hash, resets_at))
            self.on_limit(resets_at)
        return resets_at

    def _has_base(self, key_hash: str) -> bool:
        return self._ledger.store.state.base_of(self._ledger.upstream, key_hash) is not None

    def _is_quiet(self, key_hash: str) -> bool:
        users = [account for account in self._ledger.accounts().values() if account.key_hash == key_hash]
        if any(self._ledger.store.pending(account.id) for account in users):
            return False
        last_s = max((account.last_entry_s for account in users), default=0.0)
        return self._ledger.clock.epoch_s() - last_s >= self._lag_s

    def _key(self, base: KeyBase) -> Secret | None:
        """The key of a base, where an account of this process has it."""
        if base.upstream != self._ledger.upstream:
            return None
        holders = (account.id for account in self._ledger.accounts().values() if account.key_hash == base.key_hash)
        return next((key for holder in holders if (key := self._ledger.account_state(holder).key) is not None), None)

    async def used_pusd(self, base: KeyBase, posted_pusd: int) -> int | None:
        """What a base's key has used since the base was read; None if that is no evidence at the moment.

        Usage below what is posted for sure, and any growth of what provider keys of the user's own were billed, is no evidence for
        good: the base is lost.

        Args:
            base: The base.
            posted_pusd: What its calls had posted a lag ago. What of that was not assumed is in the usage.
        """
        key = self._key(base)
        record = None if key is None else await self._record(key)
        if record is None:
            return None
        used_pusd = record.usage_pusd - base.usage_pusd
        assumed_pusd = self._ledger.store.state.key_posted[base.id].assumed_pusd
        if record.byok_pusd != base.byok_pusd:
            self._lose(base, "provider keys of the user's own were billed (BYOK)")
        elif used_pusd < posted_pusd - assumed_pusd - ROUNDING_PUSD:
            self._lose(base, "the key's usage fell")
        elif used_pusd >= self._highest_pusd.get(base.id, 0):  # else an older figure than one that was read before
            self._highest_pusd[base.id] = used_pusd
            return used_pusd
        return None

    def _lose(self, base: KeyBase, reason: str) -> None:
        _log.error("key.no_evidence", why=reason)
        self._ledger.commit(LoseKeyBase(base.id, reason))

    def calls(self, base: KeyBase) -> list[Reservation]:
        """The undecided calls that began after a base was read, of all accounts, oldest first."""
        return [r for r in self._ledger.store.pending() if r.key_base == base.id]

    def includes_others(self, base: KeyBase, ripe: Sequence[Reservation]) -> bool:
        """Whether the key's usage may include a call that is not one of `ripe`, and whose own cost may still be reported.

        A call whose end was not seen and that has no id is not counted: only the usage can say what it cost.
        """
        now_s, decided = self._ledger.clock.epoch_s(), {r.id for r in ripe}
        return any(
            r.unknown_since_s is None or r.generation_id is not None or r.unknown_since_s <= now_s
            for r in self.calls(base)
            if r.id not in decided
        )


def next_reset(window: str | None, now_s: float) -> str | None:
    """Return when a `daily`, `weekly` or `monthly` limit starts again, in ISO 8601; None without one.

    Source: openrouter.ai/docs/guides/overview/auth/management-api-keys, 2026-10: at 00:00 UTC, weeks on Monday.
    """
    today = datetime.fromtimestamp(now_s, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match window:
        case "daily":
            reset = today + timedelta(days=1)
        case "weekly":
            reset = today + timedelta(days=7 - today.weekday())
        case "monthly":
            reset = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
        case _:
            return None
    return reset.strftime("%Y-%m-%dT%H:%M:%SZ")
