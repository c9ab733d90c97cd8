"""Composition root: builds the parts of a proxy, serves, and leaves a ledger from which the next start can go on."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import structlog

from preflight_proxy.base.clock import Clock, SystemClock
from preflight_proxy.base.config import Config, host_port, origin, upstream_proxy
from preflight_proxy.base.tasks import Tasks
from preflight_proxy.calls.free_reads import FreeReads
from preflight_proxy.calls.paid_calls import PaidCalls
from preflight_proxy.calls.routes import Routes
from preflight_proxy.calls.token_counts import TokenCounts
from preflight_proxy.control.accounts import Accounts
from preflight_proxy.control.api import Control
from preflight_proxy.control.runner_watch import RunnerWatch
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.ledger.commands import ClearQuarantine, Quarantine, Unfreeze
from preflight_proxy.core.ledger.rows import QuarantinedEndpoint
from preflight_proxy.core.shapes.paths import API
from preflight_proxy.evidence.foreign_keys import ForeignKeys
from preflight_proxy.evidence.unknowns import UnknownCalls
from preflight_proxy.gates.portable import ForwarderListener
from preflight_proxy.gates.ports import EgressRules
from preflight_proxy.ledger.events import Events
from preflight_proxy.ledger.files import Files
from preflight_proxy.ledger.quarantine_file import QuarantineFile
from preflight_proxy.ledger.service import BYOK, KEY_LIMIT_FIRED, Ledger
from preflight_proxy.ledger.shared_counts import SharedCounts
from preflight_proxy.ledger.store import Store
from preflight_proxy.server.intake import Intake
from preflight_proxy.server.listeners import Listeners, naming
from preflight_proxy.upstream.client import Upstream
from preflight_proxy.upstream.prices import Prices

DRAIN_S_MAX = 30.0
"""After SIGTERM running streams may go on for this long. Then they are ended, and the next start settles the rest."""
FILES_MIN = 512
"""Open files that a proxy needs at the least: one trial's connections, twice."""
MACOS_FILES_MAX = 10240
"""OPEN_MAX: macOS takes no larger number of open files, whatever its hard limit says. Source: setrlimit(2) of macOS."""

_log = structlog.get_logger("preflight_proxy.app")


class RunningProxy(msgspec.Struct, frozen=True):
    """A proxy that serves.

    Attributes:
        base_url: The API base of the TCP listener, or None.
        ledger: Accounts and entries.
        accounts: Opens and closes accounts.
        tasks: The running calls.
        intake: The request bodies in memory.
        over: Set when the process should end, because its runner is gone and nothing pending can be settled.
        foreign_keys: Reads keys that are not this ledger's alone.
        control: The control plane.
        portal: `HOST:PORT` where forwarders of portable gates connect, or None.
    """

    base_url: str | None
    ledger: Ledger
    accounts: Accounts
    tasks: Tasks
    intake: Intake
    over: asyncio.Event
    foreign_keys: ForeignKeys
    control: Control
    portal: str | None = None


@asynccontextmanager
async def running(
    config: Config,
    clock: Clock | None = None,
    egress_rules: EgressRules | None = None,
    over: asyncio.Event | None = None,
) -> AsyncIterator[RunningProxy]:
    """Serve while the context lasts. Afterwards all streams have ended, and what is still pending is in the ledger.

    Args:
        config: The settings.
        clock: The system's if None.
        egress_rules: How agents' egress resolves names, and what it may reach; public addresses only if None.
        over: `RunningProxy.over`, if the caller has it already.

    Raises:
        LedgerError: The store cannot be opened, or another proxy has it.
        ConfigError: An address cannot be bound.
    """
    clock, over = clock or SystemClock(), over or asyncio.Event()
    _raise_file_limit()
    _make_folder(config.data_dir)
    async with AsyncExitStack() as ends:
        ledger_file = config.data_dir / "ledger.sqlite3"
        store = Store(ledger_file, durability=config.durability, clock=clock, upstream=origin(config.upstream))
        ends.callback(store.close)
        ledger = _open_ledger(config, store, clock)
        ends.callback(ledger.close)
        upstream = await ends.enter_async_context(Upstream(config.upstream, upstream_proxy(config.upstream)))
        ledger.upstream = upstream.base_url
        prices, tasks, intake = Prices(upstream, clock), Tasks(), Intake()
        _share_quarantine(config, ledger, prices)
        foreign_keys = ForeignKeys(ledger, upstream, lag_s=config.key_usage_lag_s)
        shared_counts = _shared_counts(config, clock)
        ends.callback(shared_counts.close)
        paid_calls = PaidCalls(
            ledger,
            upstream,
            prices,
            tasks,
            intake,
            config.unknown_fields,
            foreign_keys,
            bound=config.bound,
            cache_bound=config.cache_bound,
            weigh=config.weigh,
            shared_counts=shared_counts,
        )
        token_counts = TokenCounts(ledger, intake, paid_calls.reader)
        routes = Routes(ledger, paid_calls, FreeReads(ledger, prices, upstream), token_counts)
        listeners, forwarders = Listeners(), ForwarderListener()
        accounts = Accounts(ledger, upstream, listeners, routes.handler, egress_rules, forwarders)
        watch = RunnerWatch(ledger, accounts, run=config.run, grace_s=config.grace_s, over=over)
        control = Control(ledger, accounts, watch, shared_counts, run=config.run, upstream=config.upstream)
        unknown_calls = UnknownCalls(
            ledger, upstream, foreign_keys, lag_s=config.key_usage_lag_s, generation_s_max=config.generation_s_max
        )
        watching = Tasks()
        close_gates = (accounts.close_gates, forwarders.close)
        for end in (tasks.cancel, listeners.close, *close_gates, watching.cancel, watch.close):
            ends.push_async_callback(end)  # the last one is called first
        unknown_calls.begin()
        control.base_url = await _listen(config, listeners, routes, control)
        portal = _listen_for_forwarders(config, forwarders)
        watching.spawn(unknown_calls.run(), "unknown calls")
        watching.spawn(store.watch(), "ledger watch")
        watch.begin()
        shared_counts.begin()
        yield RunningProxy(control.base_url, ledger, accounts, tasks, intake, over, foreign_keys, control, portal)
        routes.closing = True
        await _drain(ledger, tasks)


def _open_ledger(config: Config, store: Store, clock: Clock) -> Ledger:
    """Update the accounts that an earlier version wrote, and write all budget files."""
    events = Events(first_seq=int(clock.epoch_s() * 1000), wanted=config.run is not None)
    store.on_poisoned = lambda why: events.publish("ledger", "", run=config.run, closed=why)
    if config.tags:
        store.state.tags = msgspec.Raw(msgspec.json.encode(config.tags))
    ledger = Ledger(store, Files(store.cost_log), events, clock)
    ledger.byok, ledger.call_s_max = config.byok, config.call_s_max
    ledger.reserves_proven = config.bound == "proven" and config.cache_bound == "write"
    for account in list(ledger.accounts().values()):
        if account.frozen_reason == KEY_LIMIT_FIRED and not account.key_is_own:
            ledger.commit(Unfreeze(account.id))  # earlier versions froze such accounts (M20)
    for account_id in ledger.accounts():
        ledger.write_budget(account_id)  # the last process may have died between a commit and its file (M10 step 7)
    ledger.files.flush()
    return ledger


def _make_folder(data_dir: Path) -> None:
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as exc:
        raise ConfigError(f"{data_dir} is a file; the proxy keeps its ledger in a folder: name one.") from exc
    except OSError as exc:
        raise ConfigError(f"The data directory {data_dir} cannot be made: {exc.strerror}") from exc


def _share_quarantine(config: Config, ledger: Ledger, prices: Prices) -> None:
    """Read the user's list of quarantined endpoints, and add to it what this proxy quarantines (M14, overrun).

    Endpoints that were quarantined because `byok` was not set are used again if it is set (M16, metering).
    """
    shared = QuarantineFile(Path(config.quarantine_file)) if config.quarantine_file else None
    for row in shared.read() if shared else ():
        if row.upstream == origin(config.upstream) and (row.model, row.tag) not in ledger.store.state.quarantined:
            ledger.commit(Quarantine(row.model, row.tag, row.reason))
    for row in list(ledger.store.state.quarantined.values()) if config.byok else ():
        if row.reason == BYOK:
            ledger.commit(ClearQuarantine(row.model, row.tag))

    def follow(row: QuarantinedEndpoint) -> None:
        prices.expire(row.model)
        if shared is not None:
            shared.add(row)

    ledger.on_quarantined = follow


def _shared_counts(config: Config, clock: Clock) -> SharedCounts:
    """Return the counts that the user's runs share; another project may use a run's id too, so its folder is part of its name."""
    return SharedCounts(
        Path(config.shared_counts_file) if config.shared_counts_file else None,
        run=f"{config.run or ''}\n{config.data_dir.resolve()}",
        upstream=origin(config.upstream),
        clock=clock,
        share_preambles=config.share_preambles,
    )


async def _listen(config: Config, listeners: Listeners, routes: Routes, control: Control) -> str | None:
    base_url = None
    if config.listen is not None:
        with naming(config.listen):
            host, port = await listeners.on_tcp(routes.handler(), *host_port(config.listen))
        base_url = f"http://{f'[{host}]' if ':' in host else host}:{port}{API}"
    if config.unix is not None:
        with naming(config.unix):
            await listeners.on_unix(routes.handler(), Path(config.unix))
    if config.control is not None:
        with naming(config.control):
            await listeners.on_unix(control.handle, Path(config.control))
    return base_url


def _listen_for_forwarders(config: Config, forwarders: ForwarderListener) -> str | None:
    if config.portal is None:
        return None
    with naming(f"{config.portal} for portable gates"):
        host, port = forwarders.listen(*host_port(config.portal))
    return f"{host}:{port}"


async def _drain(ledger: Ledger, tasks: Tasks) -> None:
    """Wait for running streams, then end them. Wait for costs that upstream may still report."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + DRAIN_S_MAX
    if not await tasks.finish(DRAIN_S_MAX):
        ledger.sessions.cut("the proxy was stopped")
    while _cost_may_come(ledger) and loop.time() < deadline_s:
        await asyncio.sleep(0.1)


def _cost_may_come(ledger: Ledger) -> bool:
    """Whether the cost of a pending call can still be read: by its id, with the key of its account."""
    return any(r.generation_id and ledger.account_state(r.account).key is not None for r in ledger.store.pending())


def _raise_file_limit() -> None:
    """Use all the open files that the system allows (C5).

    Raises:
        ConfigError: Even that is too few.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = min(hard, MACOS_FILES_MAX) if sys.platform == "darwin" else hard
    if allowed != resource.RLIM_INFINITY and allowed < FILES_MIN:
        raise ConfigError(
            f"The system allows {allowed} open files, and the proxy needs {FILES_MIN}: raise `ulimit -n`."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
