"""What a caller asks of a run, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent_preflight.models import RunResult
from agent_preflight.options.settings import Arguments, Budget, RunSettings
from agent_preflight.runs.disk import FREE_BYTES_MIN
from agent_preflight.runs.plan import Models, PolicyGiven, Surroundings
from preflight_proxy.core.secret import Secret

OnEvent = Callable[[dict[str, Any]], object]
OnComplete = Callable[[Path, RunResult], object]


BY_OPTION = "option"
"""A variable whose value stood on the command line: it is kept nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a run of the command line was given what plan.json must not hold, so that a resume can read it again.

    Attributes:
        directory: Where it was started; paths in options of the engine are relative to it.
        config: The file that configures it, absolute.
        env_files: Files of variables, absolute, in the order in which they were read.
        env_from: Each of the agents' variables with where its value came from: `option`, `environment`, `config` or `env_file`.
    """

    directory: Path | None = None
    config: Path | None = None
    env_files: tuple[Path, ...] = ()
    env_from: Mapping[str, str] = field(default_factory=dict)

    @property
    def given_values(self) -> list[str]:
        """The variables whose values must be given again."""
        return sorted(name for name, source in self.env_from.items() if source == BY_OPTION)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """Everything that a caller may say of a run.

    Attributes:
        models: Pairs of model id and alias.
        admin_key: Makes and deletes the sub-keys.
        budget: Dollars for each trial, or by alias.
        around: What all trials have in common.
        runs_dir: Where the run's folder is made.
        run_id: None for one that is new.
        resume: The run of that id goes on: trials that have ended are kept.
        retry_failed: With `resume`, trials that failed begin again too.
        origin: Where a run of the command line was given its options; None for a script's.
        suggested_id: What a new one is to be, if it is free; made of the time if not given.
        single: The trial's own folder below `runs_dir` is the run's folder (`run_container`).
        arguments: The agents' arguments, for all or by alias.
        policy: The eject policy, or what makes one.
        idle_timeout_s: For the default policy.
        on_event: The user's function for each event.
        on_complete: The user's function for each result.
        workers: How many trials go on at once.
        base_url: OpenRouter's API base; None for the usual one.
        byok: Calls may run on provider keys of the user's own (M16).
        gate_base: What the gate image is built on; None for `PREFLIGHT_GATE_BASE`, else the usual one.
        free_bytes_min: With less room than this on the disk of the run's folder its trials are ended.
        makes_sources: Folders are made for mounts that agents may write to and that are missing; else those are errors.
        preflight: Called before anything costs money, with `found`, the lines on this machine; raises what ends the run.
        say: Prints a line for a person.
    """

    models: Models
    admin_key: Secret
    budget: Budget
    around: Surroundings
    runs_dir: Path
    run_id: str | None = None
    resume: bool = False
    retry_failed: bool = False
    origin: Origin | None = None
    suggested_id: str | None = None
    single: bool = False
    arguments: Arguments | None = None
    policy: PolicyGiven = None
    idle_timeout_s: float = 300.0
    on_event: OnEvent | None = None
    on_complete: OnComplete | None = None
    workers: int = 8
    base_url: str | None = None
    byok: bool = False
    gate_base: str | None = None
    free_bytes_min: int = FREE_BYTES_MIN
    makes_sources: bool = True
    preflight: Callable[..., object] | None = field(default=None, repr=False)  # it holds keys
    say: Callable[[str], None] = field(default=lambda line: None)

    @property
    def functions(self) -> list[str]:
        """Names of the options that hold code of a script's own; no file can keep them."""
        if self.origin is not None:
            return []
        given = {"eject_policy": self.policy, "on_event": self.on_event, "on_complete": self.on_complete}
        return [name for name, value in given.items() if value is not None]

    @property
    def settings(self) -> RunSettings:
        """All that the run was told, as its options are declared."""
        return self.around.settings

    @property
    def may_have_begun(self) -> bool:
        """Whether the run's folder may be that of an earlier run, which must be swept before this one takes it over."""
        return self.resume or self.single or self.run_id is not None


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that is over: its results in the order of its models, and where its files are.

    Attributes:
        held_back: Aliases of trials that were not started, because the OpenRouter account has no credit.
    """

    run_dir: Path
    results: list[RunResult]
    held_back: tuple[str, ...] = ()
