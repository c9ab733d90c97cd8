"""What a caller asks of a run, and the results of a run that is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent_preflight.base.console import say
from agent_preflight.models import RunResult
from agent_preflight.options.settings import RunSettings
from agent_preflight.options.sources import BY_OPTION
from agent_preflight.sandboxes.output_folder import FREE_BYTES_MIN
from preflight_proxy.core.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a run of the command line has read what plan.json must not hold. A resume reads it there again.

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
    """A run that is to be done: its settings, and what is no option.

    Attributes:
        settings: The options of the run, checked. They have the management key.
        origin: Where a run of the command line has read its options; None for a script's.
        suggested_id: The id of a new run, if no other run has it; by default it is made of the time.
        single: The trial's own folder below `runs_dir` is the run's folder (`run_container`).
        gate_base: The image on which the gate image is built; None for `PREFLIGHT_GATE_BASE`, else the usual one.
        free_bytes_min: If the disk of the run's folder has less room than this, its trials are ended.
        makes_sources: Folders are made for mounts that agents may write to and that are missing; else those are errors.
        preflight: The checks. Called before anything costs money, with the findings on this machine as `found`. If it raises,
            the run ends.
    """

    settings: RunSettings
    origin: Origin | None = None
    suggested_id: str | None = None
    single: bool = False
    gate_base: str | None = None
    free_bytes_min: int = FREE_BYTES_MIN
    makes_sources: bool = True
    preflight: Callable[..., object] | None = field(default=None, repr=False)  # it holds keys

    @property
    def admin_key(self) -> Secret:
        """The management key, which makes and deletes the sub-keys."""
        assert self.settings.admin_key is not None, "with_keys"
        return self.settings.admin_key

    @property
    def runs_dir(self) -> Path:
        """The folder in which the run's folder is made."""
        return Path(self.settings.runs_dir)

    @property
    def workers(self) -> int:
        """How many trials run at once."""
        return self.settings.max_workers if self.settings.parallel else 1

    def say(self, line: str) -> None:
        """Print a line for a person."""
        (self.settings.log_fn or say)(line)

    @property
    def functions(self) -> list[str]:
        """Names of the options that hold code of a script's own; no file can keep them."""
        names = ("eject_policy", "on_event", "on_complete") if self.origin is None else ()
        own = [name for name in names if getattr(self.settings, name) is not None]
        return [*own, "score"] if callable(self.settings.score) else own

    @property
    def may_have_begun(self) -> bool:
        """Whether the run's folder may be that of an earlier run, which must be swept before this one takes it over."""
        return self.settings.resume or self.single or self.settings.run_id is not None


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that is over: its results in the order of its models, and where its files are.

    Attributes:
        held_back: Aliases of trials that were not started, because the OpenRouter account has no credit.
    """

    run_dir: Path
    results: list[RunResult]
    held_back: tuple[str, ...] = ()
