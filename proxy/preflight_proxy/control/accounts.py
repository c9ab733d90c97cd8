"""Opens, freezes, limits and closes accounts: the ledger's side, the key in memory, the gate, the running calls."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog

from preflight_proxy.base.control_messages import AccountSpec, GateSpec
from preflight_proxy.base.tasks import Tasks
from preflight_proxy.calls.routes import hash_token
from preflight_proxy.core.errors import UpstreamError
from preflight_proxy.core.ledger.commands import Freeze, OpenAccount, SetLimit, Unfreeze
from preflight_proxy.core.ledger.rows import CLOSED
from preflight_proxy.core.secret import Secret
from preflight_proxy.gates.portable import ForwarderListener, PortableGate
from preflight_proxy.gates.ports import EgressRules, GatePorts
from preflight_proxy.gates.shared import GateState, Namespaces, SharedGate
from preflight_proxy.ledger.service import Ledger
from preflight_proxy.server.http_server import Handler
from preflight_proxy.server.listeners import Listeners
from preflight_proxy.upstream.client import Upstream
from preflight_proxy.upstream.evidence_reads import read_key_usage_pusd

KEY_READS_MAX = 3
"""Tries to read a key's usage at the opening of its account."""
FREEZES_S_MAX = 2.0
"""At the end of the process, freezes that are under way have this long."""

_log = structlog.get_logger("preflight_proxy.control.accounts")


class Accounts:
    """The accounts of one proxy.

    Args:
        ledger: Keeps the accounts.
        upstream: Reads a key's usage when its account is opened.
        listeners: Serve what gates hand over.
        handler: Makes the handler of an account's own listeners.
        egress_rules: How agents' egress resolves names, and what it may reach; by default public addresses only.
        forwarders: Accepts the forwarders of portable gates; by default none.
    """

    def __init__(
        self,
        ledger: Ledger,
        upstream: Upstream,
        listeners: Listeners,
        handler: Callable[[str], Handler],
        egress_rules: EgressRules | None = None,
        forwarders: ForwarderListener | None = None,
    ) -> None:
        self._ledger = ledger
        self._upstream = upstream
        self._listeners = listeners
        self._handler = handler
        self._egress_rules = egress_rules
        self._forwarders = forwarders or ForwarderListener()
        self._gates: dict[str, SharedGate | PortableGate] = {}
        self._namespaces: Namespaces | None = None
        self._tasks = Tasks()

    async def open(self, account_id: str, spec: AccountSpec) -> None:
        """Open an account, or bring an open one to this state; what is posted and pending stays.

        Raises:
            UpstreamError: The key's usage cannot be read; the account is not opened.
            LedgerError: The ledger cannot be written.
            ValueError: The limit is too large or below 0, the token is another account's, or the gate's spec contradicts itself.
        """
        gate_ports = self._gate_ports(account_id, spec.gate)
        usage_pusd = await self._key_usage(spec.key) if spec.key_is_own else None
        known = self._ledger.accounts().get(account_id)  # nothing is awaited between this and the commit
        limit = known.limit_pusd if known is not None and spec.keep_limit else spec.limit_pusd
        self._ledger.commit(
            OpenAccount(
                account=account_id,
                run=spec.run,
                limit_pusd=limit,
                token_hash=hash_token(spec.token.reveal()),
                models=spec.models,
                key_hash=hashlib.sha256(spec.key.reveal().encode()).hexdigest(),
                key_is_own=spec.key_is_own,
                key_usage_pusd=usage_pusd,
                budget_file=spec.budget_file,
                budget_mode=spec.budget_mode,
            )
        )
        if known is not None and known.limit_pusd != limit:
            self._ledger.forgive(account_id)  # M19 (a refused call that repeats)
        self._ledger.account_state(account_id).key = spec.key
        if spec.gate is not None and gate_ports is not None and account_id not in self._gates:
            await self._open_gate(account_id, spec.gate, gate_ports)
        self._ledger.write_budget(account_id)
        await asyncio.to_thread(self._ledger.files.flush)  # the agent may start right after this
        self._ledger.publish("opened", account_id)

    async def _key_usage(self, key: Secret) -> int:
        for attempt in range(1, KEY_READS_MAX):
            try:
                return await read_key_usage_pusd(self._upstream, key)
            except UpstreamError:
                await asyncio.sleep(0.5 * attempt)
        return await read_key_usage_pusd(self._upstream, key)

    def _gate_ports(self, account_id: str, spec: GateSpec | None) -> GatePorts | None:
        """What the ports of a new gate serve; None if there is no gate to open."""
        if spec is None or account_id in self._gates:
            return None
        if (spec.socket is None) is (spec.portal_pass is None):
            raise ValueError("A gate has either a socket or a pass.")
        if spec.portal_pass is not None and not self._forwarders.listens:
            raise ValueError("This proxy has no address for portable gates.")
        return GatePorts(spec, self._handler(account_id), self._listeners, self._egress_rules)

    async def _open_gate(self, account_id: str, spec: GateSpec, gate_ports: GatePorts) -> None:
        serve, on_state = gate_ports.serve, partial(self._gate_became, account_id)
        gate: SharedGate | PortableGate
        if spec.portal_pass is not None:
            gate = PortableGate(account_id, spec.portal_pass, spec.ports, self._forwarders, serve, on_state)
        else:
            assert spec.socket is not None
            self._namespaces = self._namespaces or Namespaces()
            gate = SharedGate(account_id, Path(spec.socket), spec.ports, self._namespaces, serve, on_state)
        self._gates[account_id] = gate
        try:
            await gate.open()
        except BaseException:
            self._gates.pop(account_id, None)  # the account may have been closed meanwhile
            raise
        self._ledger.account_state(account_id).traffic = gate_ports.traffic
        self._gate_became(account_id, gate.state)

    def _gate_became(self, account_id: str, state: GateState) -> None:
        self._ledger.account_state(account_id).gate = state.value
        self._ledger.publish("gate", account_id, state=state.value)
        if state is GateState.LOST:
            self._tasks.spawn(self.freeze(account_id, "gate lost"), "freeze")  # C4

    async def freeze(self, account_id: str, reason: str) -> None:
        """Refuse new calls and end running streams at once; both have happened when this returns.

        Raises:
            KeyError: There is no such account.
            LedgerError: The ledger cannot be written; running streams are ended all the same.
        """
        try:
            self._ledger.account(account_id)
            self._ledger.commit(Freeze(account_id, reason))
        finally:
            self._ledger.sessions.cut(reason, account_id)
        self._ledger.publish("frozen", account_id, reason=reason)

    def unfreeze(self, account_id: str) -> None:
        """Admit calls again."""
        self._ledger.account(account_id)
        self._ledger.commit(Unfreeze(account_id))
        self._ledger.forgive(account_id)
        self._ledger.publish("unfrozen", account_id)

    def set_limit(self, account_id: str, limit_pusd: int) -> None:
        """Change the limit; waiting calls are looked at again."""
        self._ledger.account(account_id)
        self._ledger.commit(SetLimit(account_id, limit_pusd))
        self._ledger.forgive(account_id)
        self._ledger.publish("limit", account_id)

    def top_up(self, account_id: str, more_pusd: int) -> None:
        """Raise the limit by an amount. Two raises at the same time both count.

        Raises:
            KeyError: There is no such account.
            ValueError: The limit would pass the largest that there is; it is as before.
            LedgerError: The ledger cannot be written.
        """
        self.set_limit(account_id, self._ledger.account(account_id).limit_pusd + more_pusd)

    async def close(self, account_id: str) -> None:
        """Shut the account's listeners and forget its key; its entries stay."""
        account = self._ledger.account(account_id)
        if account.frozen is None:
            await self.freeze(account_id, CLOSED)
        if (gate := self._gates.pop(account_id, None)) is not None:
            await gate.close()
        self._ledger.account_state(account_id).key = None
        self._ledger.publish("closed", account_id)

    async def close_gates(self) -> None:
        """Leave the gates at the end of the process. They keep their listeners for the next proxy."""
        for gate in self._gates.values():
            await gate.release()
        await self._tasks.finish(FREEZES_S_MAX)
        await self._tasks.cancel()
