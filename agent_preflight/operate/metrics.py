"""Serves the figures of ledgers to Prometheus, from a process of its own that reads ledgers and cost lines at each scrape.

Amounts become floats here, because Prometheus has nothing else. Labels are accounts, models, kinds of tokens and codes of refusals:
no text of a call and no key is among them.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter as Sums
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, start_http_server
from prometheus_client.core import Metric

from agent_preflight.base.usd import usd
from agent_preflight.operate.reconcile import folder_figure
from agent_preflight.runs.call import call_of
from agent_preflight.runs.costs import ledgers_of
from agent_preflight.runs.reconciliation import reconcile_account
from preflight_proxy.core.errors import ConfigError, OperatingError
from preflight_proxy.core.ledger.rows import Account, Entry
from preflight_proxy.core.terminal import plain
from preflight_proxy.ledger.reader import read_after

LABEL_VALUES_MAX = 200
"""Different values of one label. Agents and OpenRouter choose names of models, and each time series costs Prometheus memory."""
LABEL_CHARS_MAX = 100
OTHER = "other"
KINDS = ("prompt", "cached", "cache_write", "completion", "reasoning")
"""Kinds of tokens: the fields of a cost line that end in `_tokens`."""
BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Upper ends of the histograms' buckets. The longest possible call takes 30 minutes (M17 (longest call))."""
DOLLARS = {
    "spent": "Dollars posted in the ledger.",
    "reserved": "Dollars reserved for calls whose cost is not known yet.",
    "limit": "The limit in dollars.",
    "overrun": "Dollars billed above reservations.",
    "drift": "Dollars of OpenRouter's figure for the key minus those of the ledger, if that figure is known.",
}


def serve_metrics(data: Path, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve the metrics of a folder until Ctrl-C.

    Args:
        data: The folder of a run, of a stand-alone proxy, or of runs. Its ledger may come later.
        host: The address to listen on.
        port: Its port; 0 takes a free one.
        say: Gets the URL in one line, once connections are accepted.

    Raises:
        ConfigError: There is no such folder, or the address cannot be used.
    """
    if not data.is_dir():
        raise ConfigError(f"There is no folder {data}. Name the folder of a run, of a stand-alone proxy, or of runs.")
    disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the series
    registry = CollectorRegistry()
    registry.register(LedgerCollector(data))
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as exc:
        raise ConfigError(f"Cannot listen on {host}:{port}: {exc.strerror}. Name another --listen.") from exc
    say(f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}/metrics")
    with contextlib.suppress(KeyboardInterrupt):
        thread.join()


@dataclass
class _LedgerReading:
    """What was read of one ledger.

    Attributes:
        inode: Another file in its place is another ledger.
        entry_id: Its last entry that was read.
        spent_pusd: The sums of its entries, by account and model.
        not_served: Its last counts of calls that were not served, by code, of each account. A resume sets them to 0.
    """

    inode: int
    entry_id: int = 0
    spent_pusd: Sums[tuple[str, ...]] = field(default_factory=Sums)
    not_served: dict[str, Sums[str]] = field(default_factory=dict)


class LedgerCollector:
    """Reads the ledgers of a folder at each scrape: of the cost lines, only those that came since the last one.

    Counters never fall while the process lives, whatever happens to the ledgers.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._one_scrape = threading.Lock()
        self._ledgers: dict[Path, _LedgerReading] = {}
        self._shown: defaultdict[str, set[str]] = defaultdict(set)
        account, pair = ("account",), ("account", "model")
        at: dict[str, Any] = {"namespace": "agent_preflight", "registry": None}
        self._up = Gauge("up", "1 if there is a ledger and all ledgers were read, else 0.", **at)
        self._dollars = {
            name: Gauge(f"{name}_dollars", text, pair if name == "spent" else account, **at)
            for name, text in DOLLARS.items()
        }
        self._calls = Counter("calls", "Calls of agents that have a cost.", pair, **at)
        self._tokens = Counter("tokens", "Tokens by kind.", (*pair, "kind"), **at)
        self._refusals = Counter("refusals", "Calls that were not served, by code.", (*account, "code"), **at)
        at |= {"labelnames": ("model",), "buckets": BUCKETS_S}
        self._durations = Histogram("call_duration_seconds", "From sending a call to its end.", **at)
        self._first_tokens = Histogram("first_token_seconds", "From sending a call to its first byte.", **at)

    def collect(self) -> list[Metric]:
        """Return all metrics. Never raises for a ledger that is missing or damaged: then `agent_preflight_up` is 0."""
        amounts_pusd: Sums[tuple[str, ...]] = Sums()
        is_read = []
        with self._one_scrape:
            with contextlib.suppress(OperatingError, OSError):
                is_read = [self._read_ledger(path, amounts_pusd) for path in ledgers_of(self._data)]
            self._up.set(bool(is_read) and all(is_read))
            for gauge in self._dollars.values():
                gauge.clear()
            for (name, *labels), amount_pusd in amounts_pusd.items():
                self._dollars[name].labels(*labels).set(float(usd(amount_pusd)))
            counts = (self._calls, self._tokens, self._refusals, self._durations, self._first_tokens)
            return [part for metric in (self._up, *self._dollars.values(), *counts) for part in metric.collect()]

    def _label(self, name: str, text: str) -> str:
        """Return the value of a label for a text of an agent or of OpenRouter.

        A value that was shown stays. When there are too many, each new one is `other`, from then on.
        """
        value = plain(text)[:LABEL_CHARS_MAX].strip() or "unknown"
        if len(self._shown[name]) < LABEL_VALUES_MAX:
            self._shown[name].add(value)
        return value if value in self._shown[name] else OTHER

    def _read_ledger(self, path: Path, amounts_pusd: Sums[tuple[str, ...]]) -> bool:
        """Count what is new in a ledger, and add its amounts. Return False if it cannot be read or does not balance."""
        try:
            inode = path.stat().st_ino
            if path not in self._ledgers or self._ledgers[path].inode != inode:
                self._ledgers[path] = _LedgerReading(inode)
            ledger = self._ledgers[path]
            snapshot, entries = read_after(path, ledger.entry_id)
        except (OperatingError, OSError, ValueError):
            return False
        self._count_calls(ledger, entries)
        for account in snapshot.accounts:
            self._count_refusals(ledger, account)
        if ledger.spent_pusd.total() != sum(account.posted_pusd for account in snapshot.accounts):
            return False
        amounts_pusd.update({("spent", *labels): spent_pusd for labels, spent_pusd in ledger.spent_pusd.items()})
        for account in snapshot.accounts:
            name = self._label("account", account.id)
            row = reconcile_account(account, (), folder_figure(path.parent, account.id))
            amounts = {"reserved": row.pending_pusd, "overrun": row.overrun_pusd, "drift": row.drift_pusd}
            for kind, amount_pusd in (("limit", account.limit_pusd), *amounts.items()):
                if amount_pusd is not None:
                    amounts_pusd[kind, name] += amount_pusd
        return True

    def _count_calls(self, ledger: _LedgerReading, entries: Iterable[Entry]) -> None:
        for entry in entries:
            call = call_of(entry)
            labels = (self._label("account", call.trial), self._label("model", call.model))
            ledger.entry_id = call.entry_id
            ledger.spent_pusd[labels] += call.cost_pusd
            self._calls.labels(*labels).inc(call.is_call)
            for kind in KINDS:
                self._tokens.labels(*labels, kind).inc(max(getattr(call, f"{kind}_tokens"), 0))
            for histogram, time_ms in ((self._durations, call.duration_ms), (self._first_tokens, call.ttft_ms)):
                if time_ms is not None:
                    histogram.labels(labels[1]).observe(time_ms / 1000)

    def _count_refusals(self, ledger: _LedgerReading, account: Account) -> None:
        counts, before = Sums[str](), ledger.not_served.get(account.id, Sums())
        for cause in account.outcomes.causes:
            counts[cause.code] += cause.count
        for code, count in counts.items():
            labels = (self._label("account", account.id), self._label("code", code))
            self._refusals.labels(*labels).inc(count - before[code] if count >= before[code] else count)
        ledger.not_served[account.id] = counts
