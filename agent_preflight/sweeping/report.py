"""What a sweep is to do, and its report. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from agent_preflight.openrouter.http import Key
from preflight_proxy.core.evidence.aftermath import EvidenceTimes


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing that a run made outside its folder, or a whole run.

    Attributes:
        kind: `agent`, `gate`, `network`, `volume`, `proxy`, `sub-key`, `sockets`, or `run` for a run as a whole.
        name: Its name at the engine, at OpenRouter or in the system.
        run_dir: The run's folder.
        note: More about it, for a person.
        trial: The alias of the trial that it belongs to; empty if it belongs to the run as a whole.
    """

    kind: str
    name: str
    run_dir: Path
    note: str = ""
    trial: str = ""

    def line(self) -> str:
        """Return it for a person."""
        where = f"of trial {self.trial} in" if self.trial else "of"
        return f"{self.kind} {self.name} {where} {self.run_dir}{f': {self.note}' if self.note else ''}"


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What a sweep did, or with `dry_run` would do.

    Attributes:
        removed: Verified as gone; with `dry_run`, what would be removed.
        left: Could not be removed, or not be verified as gone.
        live: Belongs to runs that are going on.
        unreadable: Belongs to runs whose folder cannot be opened: a person must decide.
        notes: Other things that a person should know.
        trouble: What could not be searched, and why.
    """

    removed: tuple[Leftover, ...] = ()
    left: tuple[Leftover, ...] = ()
    live: tuple[Leftover, ...] = ()
    unreadable: tuple[Leftover, ...] = ()
    notes: tuple[str, ...] = ()
    trouble: tuple[str, ...] = ()

    @property
    def verified(self) -> bool:
        """Whether everything was searched, and nothing of a dead run is left."""
        return not self.left and not self.trouble


@dataclass(frozen=True, slots=True)
class SweepScope:
    """What to sweep.

    Attributes:
        runs_dir: Whose runs.
        admin_key: Lists and deletes sub-keys; without one they stay, and are reported.
        base_url: OpenRouter's API base, where not the usual one.
        containers: Sweep the container engine too.
        everywhere: Also remove containers of runs in other directories.
        dry_run: Only say what would be removed.
        settle_s: How long to wait in all for the costs of dead runs' last calls.
        clocks: How long such evidence takes; the same as the proxies had.
    """

    runs_dir: Path
    admin_key: Key | None
    base_url: str | None = None
    containers: bool = True
    everywhere: bool = False
    dry_run: bool = False
    settle_s: float = 0.0
    clocks: EvidenceTimes = field(default_factory=EvidenceTimes)
