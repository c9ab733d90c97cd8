"""What a sweep is asked to do, and what it says that it did. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from agent_preflight.openrouter.http import Key
from preflight_proxy.core.evidence.aftermath import EvidenceTimes


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing that a run made.

    Attributes:
        kind: `agent`, `gate`, `network`, `volume`, `proxy`, `sub-key`, `sockets`, or `run` for a run as a whole.
        name: What the engine, OpenRouter or the system calls it.
        run_dir: The run's folder.
        note: What else there is to say.
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
        removed: Seen to be gone; with `dry_run` what would be removed.
        left: Could not be removed, or not be seen to be gone.
        live: Belongs to runs that are going on.
        unreadable: Belongs to runs whose folder cannot be opened; a person must decide.
        notes: What was found out besides.
        trouble: What could not be looked for.
    """

    removed: tuple[Leftover, ...] = ()
    left: tuple[Leftover, ...] = ()
    live: tuple[Leftover, ...] = ()
    unreadable: tuple[Leftover, ...] = ()
    notes: tuple[str, ...] = ()
    trouble: tuple[str, ...] = ()

    @property
    def verified(self) -> bool:
        """Whether everything was looked for, and nothing of a dead run is left."""
        return not self.left and not self.trouble


@dataclass(frozen=True, slots=True)
class SweepScope:
    """What to sweep.

    Attributes:
        runs_dir: Whose runs.
        admin_key: Lists and deletes sub-keys; without one they are left, and reported.
        base_url: OpenRouter's API base, where not the usual one.
        containers: Look on the engine too.
        everywhere: On the engine, also what belongs to runs in other directories.
        dry_run: Only say what would be removed.
        settle_s: How long to wait in all until it is known what the last calls of dead runs cost.
        clocks: How long that evidence takes, as the proxies were told.
    """

    runs_dir: Path
    admin_key: Key | None
    base_url: str | None = None
    containers: bool = True
    everywhere: bool = False
    dry_run: bool = False
    settle_s: float = 0.0
    clocks: EvidenceTimes = field(default_factory=EvidenceTimes)
