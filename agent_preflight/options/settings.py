"""Every option of a run, declared once: its type, default, unit, help and check. Python, TOML and the command line follow. Pure.

The name of a field is the keyword of `run_multi`; an `Option` says what the file and the command line call it. A new option is a
field here, a keyword of `run_multi`, a row of the tables in docs/config.md and docs/python.md, and its use.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Required, TypedDict, get_type_hints

from agent_preflight.artifacts import RUNS_DIR
from agent_preflight.base.config import DEFAULT_BUDGET_USD
from agent_preflight.base.usd import Dollars
from agent_preflight.eject import EjectPolicy
from agent_preflight.models import RunResult
from agent_preflight.options import kinds as k
from agent_preflight.options.container_options import DockerArgs, read_docker_args
from agent_preflight.options.container_values import shown
from agent_preflight.options.kinds import OptionKind
from agent_preflight.options.naming import NamedModel
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.secret import Secret

SandboxKind = Literal["docker", "process"]
GateChoice = Literal["auto", "shared", "portable"]
StdinChoice = Literal["auto", "open", "close"]
"""What becomes of an agent's input; `"auto"` keeps it open after a prompt, and closes it at once without one."""
BudgetMode = Literal["simple", "detailed"]
Arguments = Sequence[str] | Mapping[str, Sequence[str]]
Budget = Dollars | Mapping[str, Dollars]
Models = Sequence[str | tuple[str, str]]
OnEvent = Callable[[dict[str, Any]], object]
OnComplete = Callable[[Path, RunResult], object]

COMMAND_NETWORK = "sealed"
"""The network of a run of the command line unless somebody says otherwise; scripts expect `"bridge"`."""


OF_CONTAINERS = (
    *("network", "mounts", "docker_args", "memory", "cpus", "gate", "workspace_path", "keep_output"),
    *("output_path", "output_timeout_s", "output_max_bytes", "output_max_files", "output_max_depth"),
)
"""Options that mean nothing for processes. That an image does not goes without saying; of services and egress the start tells."""


class SettingError(ConfigError, ValueError):
    """An option's value is none: a ValueError too, as it was for variables that cannot be handed over."""


class TrialOptions(TypedDict, total=False):
    """The keywords that `run_multi` and `run_container` have in common."""

    admin_key: str | Secret | None
    env: Mapping[str, str] | None
    mounts: Iterable[object] | None
    initial_prompt: str | None
    container_args: Arguments | None
    eject_policy: EjectPolicy | Callable[[], EjectPolicy] | None
    on_event: OnEvent | None
    budget_mode: str
    idle_timeout_s: float
    network: str
    timeout_s: float | None
    sandbox: SandboxKind
    workspace_path: str
    log_fn: Callable[..., object] | None
    openrouter_base_url: str | None
    command: Arguments | None
    docker_args: Sequence[str]
    services: Mapping[str, str] | None
    egress: Sequence[str]
    memory: str | None
    cpus: str | float | None
    gate: GateChoice
    byok: bool
    stdin: StdinChoice
    keep_output: bool
    output_path: str | None
    output_timeout_s: float
    output_max_bytes: int | str
    output_max_files: int
    output_max_depth: int
    env_file: str | Path | Sequence[str | Path] | None
    prompt_file: str | Path | None


class RunOptions(TrialOptions, total=False):
    """The keywords of `run_multi`."""

    budget_usd: Required[Budget]
    image_name: str
    or_key: str | Secret | None
    runs_dir: str | Path
    run_id: str | None
    on_complete: OnComplete | None
    parallel: bool
    max_workers: int
    skip_preflight: bool
    preflight_kwargs: Mapping[str, Any] | None
    resume: bool
    expect_tokens: int | None
    retry_failed: bool


@dataclass(frozen=True, slots=True)
class Option:
    """How an option is given.

    Attributes:
        kind: How its values are written and read.
        help: What it is, in a sentence, for `--help`, docs and docstrings.
        key: Its key in a file; None for the field's name, empty for none.
        flags: Its names on the command line; none if it has no place there.
    """

    kind: OptionKind
    help: str
    key: str | None = None
    flags: tuple[str, ...] = ()


def _option(kind: OptionKind, help_text: str, *flags: str, key: str | None = None) -> Option:
    return Option(kind, help_text, key, flags)


o = _option


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """All that a run is told, checked. Keys, prompts and variables do not show in its text."""

    models: Annotated[tuple[NamedModel, ...], o(k.MODELS, "The models, one agent each.", "--model")] = ()
    budget_usd: Annotated[
        Decimal | Mapping[str, Decimal], o(k.DOLLARS, "Dollars for each agent.", "--budget", key="budget")
    ] = DEFAULT_BUDGET_USD
    image_name: Annotated[str, o(k.IMAGE, "The agents' image; needed with containers.", "--image", key="image")] = ""
    container_args: Annotated[Arguments | None, o(k.ARGUMENTS, "What follows the image.", key="arguments")] = None
    sandbox: Annotated[
        SandboxKind,
        o(k.choice(SandboxKind), "Where agents run; process starts command on this machine, unconfined.", "--sandbox"),
    ] = "docker"
    command: Annotated[
        Arguments | None, o(k.ARGUMENTS, "The command line of an agent that runs as a process; arguments follow it.")
    ] = None
    network: Annotated[
        str,
        o(k.NETWORK, "sealed is the proxy and nothing else; bridge or a Docker network is that besides.", "--network"),
    ] = "bridge"
    services: Annotated[
        Mapping[str, str] | None,
        o(k.SERVICES, "What agents reach by name, sealed or not, at http://NAME:PORT.", "--service"),
    ] = None
    egress: Annotated[
        tuple[str, ...], o(k.PLACES, "Places that a sealed agent reaches through an HTTP proxy.", "--egress")
    ] = ()
    env: Annotated[
        Mapping[str, str] | None,
        o(k.ENV, "Variables for the agents; one without a value is handed on as it is set here.", "--env", "-e"),
    ] = field(default=None, repr=False)
    pass_env: Annotated[tuple[str, ...], o(k.TEXTS, "Names of variables that agents get as they are set here.")] = ()
    env_file: Annotated[
        tuple[str, ...], o(k.FILES, "File of NAME=VALUE lines for the agents; env wins.", "--env-file")
    ] = ()
    mounts: Annotated[
        tuple[str, ...], o(k.MOUNTS, "Files or folders of this machine, or volumes, in the container.", "--mount")
    ] = ()
    workspace_path: Annotated[str, o(k.INSIDE, "Folder in the container that gets budget.txt.")] = "/workspace/output"
    keep_output: Annotated[
        bool, o(k.SWITCH, "Copy what agents wrote into the run's folder.", "--keep-output/--no-keep-output")
    ] = True
    output_path: Annotated[
        str | None,
        o(k.INSIDE, "Folder in the container that is copied; the workspace path if left out.", "--output-path"),
    ] = None
    output_timeout_s: Annotated[
        float, o(k.SECONDS, "How long copying one agent's files may take.", "--output-timeout")
    ] = 60.0
    output_max_bytes: Annotated[int, o(k.BYTES, "Bytes that are copied of one agent.", "--output-max-bytes")] = 2**30
    output_max_files: Annotated[int, o(k.COUNT, "Files that are copied of one agent.", "--output-max-files")] = 20_000
    output_max_depth: Annotated[int, o(k.COUNT, "Folders in folders that are copied.", "--output-max-depth")] = 32
    docker_args: Annotated[tuple[str, ...], o(k.TEXTS, "Options of the engine, of those that are allowed.")] = ()
    memory: Annotated[str | None, o(k.MEMORY, "Limit of each container, such as 2g.", "--memory")] = None
    cpus: Annotated[str | None, o(k.CPUS, "Limit of each container, such as 1.5.", "--cpus")] = None
    gate: Annotated[
        GateChoice,
        o(k.choice(GateChoice), "How containers reach the proxy: a unix socket, TCP, or what works here.", "--gate"),
    ] = "auto"
    initial_prompt: Annotated[
        str | None, o(k.TEXT, "Sent to each agent on standard input as one JSON line.", "--prompt", key="prompt")
    ] = field(default=None, repr=False)
    prompt_file: Annotated[str | None, o(k.FILE, "The same from a file.", "--prompt-file")] = None
    stdin: Annotated[
        StdinChoice,
        o(k.choice(StdinChoice), "The agents' standard input; auto keeps it open after a prompt only.", "--stdin"),
    ] = "auto"
    timeout_s: Annotated[float | None, o(k.SECONDS, "A trial is ejected after this long.", "--timeout")] = None
    idle_timeout_s: Annotated[
        float, o(k.SECONDS, "A trial is ejected after this long without a sign of life.", "--idle-timeout")
    ] = 300.0
    eject_policy: Annotated[Any, o(k.OBJECT, "What ends a trial early; replaces the usual two.", key="policies")] = None
    on_event: Annotated[Any, o(k.OBJECT, "Called with each event that an agent prints.", key="")] = None
    on_complete: Annotated[Any, o(k.OBJECT, "Called with the run's folder and each result.", key="")] = None
    parallel: Annotated[bool, o(k.SWITCH, "False runs one trial after another.")] = True
    max_workers: Annotated[int, o(k.COUNT, "Trials that go on at once.", "--max-workers")] = 8
    budget_mode: Annotated[BudgetMode, o(k.choice(BudgetMode), "detailed lists the latest actions in budget.txt.")] = (
        "simple"
    )
    runs_dir: Annotated[str, o(k.FOLDER, "Where the run's folder is made.", "--runs-dir")] = str(RUNS_DIR)
    run_id: Annotated[str | None, o(k.RUN_ID, "The run's name; made of the time if left out.", "--run-id", key="")] = (
        None
    )
    resume: Annotated[bool, o(k.SWITCH, "Go on with a run: trials that have ended are kept.", "--resume", key="")] = (
        False
    )
    retry_failed: Annotated[
        bool, o(k.SWITCH, "With resume: run the trials that failed again.", "--retry-failed", key="")
    ] = False
    openrouter_base_url: Annotated[
        str | None, o(k.URL, "OpenRouter's API base, unless OPENROUTER_BASE_URL is set.")
    ] = None
    byok: Annotated[bool, o(k.SWITCH, "Let calls run on provider keys that your OpenRouter account holds.")] = False
    skip_preflight: Annotated[bool, o(k.SWITCH, "Start without checks.", "--skip-preflight")] = False
    preflight_kwargs: Annotated[
        Mapping[str, Any] | None, o(k.OBJECT, "Further arguments of the checks.", key="preflight")
    ] = None
    expect_tokens: Annotated[
        int | None,
        o(
            k.COUNT,
            "Tokens of an agent's first prompt; the checks say how many calls the budget affords.",
            "--expect-tokens",
        ),
    ] = None
    admin_key: Annotated[Secret | None, o(k.KEY, "A management key of OpenRouter.", key="")] = None
    or_key: Annotated[Secret | None, o(k.KEY, "An inference key of OpenRouter.", key="")] = None
    log_fn: Annotated[Any, o(k.OBJECT, "Called instead of print.", key="")] = None

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Model id and alias of each agent."""
        return [(model.id, str(model.alias)) for model in self.models]

    @property
    def agents_network(self) -> str:
        """The network that agents have: `host` for processes, whatever the option says."""
        return self.network if self.sandbox == "docker" else "host"

    @property
    def closes_stdin(self) -> bool:
        """Whether an agent's input ends at its start, after the prompt if there is one."""
        return self.stdin == "close" or (self.stdin == "auto" and self.initial_prompt is None)

    @property
    def engine_options(self) -> DockerArgs:
        """Mounts, limits and the user's own options as the engine takes them. Raises ConfigError for a wrong one."""
        given = [("memory", self.memory), ("cpus", self.cpus), *(("volume", mount) for mount in self.mounts)]
        named = [f"--{name}={value}" for name, value in given if value is not None]
        try:
            read_docker_args(named, self.network)
        except ConfigError as exc:
            raise ConfigError(str(exc).removeprefix("docker_args: --")) from None
        return read_docker_args([*named, *self.docker_args], self.network)

    def command_of(self, alias: str) -> tuple[str, ...]:
        """Return the arguments after the image; for a process, its command line and then the arguments."""
        parts = (self.container_args,) if self.sandbox == "docker" else (self.command, self.container_args)
        return tuple(
            text for part in parts for text in (part.get(alias, ()) if isinstance(part, Mapping) else part or ())
        )


@functools.cache
def options() -> Mapping[str, Option]:
    """Return how each field of `RunSettings` is given, by its name."""
    hints = get_type_hints(RunSettings, include_extras=True)
    return {each.name: hints[each.name].__metadata__[0] for each in fields(RunSettings)}


@functools.cache
def keys() -> Mapping[str, str]:
    """Return each key that a file may have, and the field that it means."""
    return {key: name for name, option in options().items() if (key := name if option.key is None else option.key)}


@functools.cache
def defaults() -> Mapping[str, Any]:
    """Return each option's default."""
    return {each.name: each.default for each in fields(RunSettings)}


def unused_by_processes(settings: RunSettings) -> list[str]:
    """Return the names of options that were given and do nothing where agents are processes; a default is not seen as given."""
    given = {name: getattr(settings, name) for name in OF_CONTAINERS}
    host = ("network", "host")  # which the plan of such a run has, and a resume reads
    return [name for name, value in given.items() if value != defaults()[name] and (name, value) != host]


def read_option(name: str, given: object, label: str | None = None) -> Any:  # noqa: ANN401 - whatever its kind makes
    """Return the value of an option.

    Args:
        name: The field's.
        given: What a source says.
        label: What errors call it; the field's name if not given.

    Raises:
        SettingError: It is none; the text says what it must be.
    """
    return read_value(options()[name].kind, given, label or name)


def read_value(kind: OptionKind, given: object, label: str) -> Any:  # noqa: ANN401 - whatever its kind makes
    """Return the value that a source gives, of a kind. Raises as `read_option`."""
    try:
        return kind.read(given)
    except (ValueError, ArithmeticError, ConfigError) as exc:
        if str(exc):
            raise SettingError(f"{label}: {str(exc).removesuffix('.')}.") from None
    is_hidden = kind in (k.KEY, k.ENV) or isinstance(given, Mapping | list | tuple)
    raise SettingError(f"{label} is {kind.form}." if is_hidden else f"{label} is {kind.form}, not {shown(str(given))}.")


def read_settings(given: Mapping[str, object]) -> RunSettings:
    """Return the settings that a mapping of `run_multi`'s keywords makes; None, and what is not named, is the default.

    Raises:
        SettingError: A value is none.
        TypeError: There is no such option.
    """
    if unknown := sorted(given.keys() - options().keys()):
        raise TypeError(f"a run has no option {', '.join(unknown)}")
    return RunSettings(**{name: read_option(name, value) for name, value in given.items() if value is not None})
