"""Declares each option of a run once: type, default, unit, help and check. Scripts, files and the command line follow. Pure.

The name of a field is the keyword of `run_multi`; an `Option` has its names in a file and on the command line. For a new option,
add a field and a keyword here, a line to the docstring of `run_multi`, rows to docs/config.md and docs/python.md, and its use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Required, TypedDict

from agent_preflight.artifacts import RUNS_DIR
from agent_preflight.base.config import DEFAULT_BUDGET_USD
from agent_preflight.base.usd import Dollars
from agent_preflight.eject import EjectPolicy
from agent_preflight.models import RunResult
from agent_preflight.options import kinds as k
from agent_preflight.options.container_options import DockerArgs, read_docker_args
from agent_preflight.options.kinds import Option, option, read_value
from agent_preflight.options.naming import NamedModel, of_agents, repeated
from preflight_proxy.base.config import Bound, CacheBound
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.secret import Secret

SandboxKind = Literal["docker", "process"]
GateChoice = Literal["auto", "shared", "portable"]
StdinChoice = Literal["auto", "open", "close"]
"""An agent's standard input. `"auto"` keeps it open after a prompt, and closes it at the start if there is no prompt."""
BudgetMode = Literal["simple", "detailed"]
Arguments = Sequence[str] | Mapping[str, Sequence[str]]
Budget = Dollars | Mapping[str, Dollars]
Models = Sequence[str | tuple[str, str]]
OnEvent = Callable[[dict[str, Any]], object]
OnComplete = Callable[[Path, RunResult], object]
ScoreGiven = str | Callable[[RunResult, Path | None], object]

COMMAND_NETWORK = "sealed"
"""The default network of the command line. The default of scripts is `"bridge"`, as it was in the old library."""

OF_CONTAINERS = (
    *("network", "mounts", "docker_args", "memory", "cpus", "gate", "workspace_path", "keep_output"),
    *("output_path", "output_timeout_s", "output_max_bytes", "output_max_files", "output_max_depth"),
)
"""Options that have no effect on processes, besides `image_name`. The lines at a run's start tell of `services` and `egress`."""


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
    bound: Bound
    cache_bound: CacheBound
    weigh: bool
    share_preambles: bool
    stdin: StdinChoice
    keep_output: bool
    output_path: str | None
    output_timeout_s: float
    output_max_bytes: int | str
    output_max_files: int
    output_max_depth: int
    env_file: str | Path | Sequence[str | Path] | None
    prompt_file: str | Path | None
    score: ScoreGiven | None
    score_image: str | None
    score_timeout_s: float
    score_pass: float
    tags: Mapping[str, str] | None
    notify: str | None


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
    repeats: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """The options of a run, checked. Its text does not show keys, prompts and variables."""

    models: tuple[NamedModel, ...] = option((), k.MODELS, "The models, one agent each.", "--model")
    budget_usd: Decimal | Mapping[str, Decimal] = option(
        DEFAULT_BUDGET_USD, k.DOLLARS, "Dollars for each agent.", "--budget", key="budget"
    )
    image_name: str = option("", k.IMAGE, "The agents' image; needed with containers.", "--image", key="image")
    container_args: Arguments | None = option(None, k.ARGUMENTS, "Arguments after the image.", key="arguments")
    sandbox: SandboxKind = option(
        "docker", k.choice(SandboxKind), "Where agents run; process runs a command here, unconfined.", "--sandbox"
    )
    command: Arguments | None = option(None, k.ARGUMENTS, "The command line of processes; arguments follow it.")
    network: str = option(
        "bridge", k.NETWORK, "sealed reaches the proxy only; bridge or a Docker network adds that.", "--network"
    )
    services: Mapping[str, str] | None = option(
        None, k.SERVICES, "Servers that agents reach by name, sealed or not, at http://NAME:PORT.", "--service"
    )
    egress: tuple[str, ...] = option(
        (), k.PLACES, "Places that a sealed agent reaches through an HTTP proxy.", "--egress"
    )
    env: Mapping[str, str] | None = option(
        None, k.ENV, "Variables for agents; NAME alone passes its value of this process.", "--env", "-e", shown=False
    )
    pass_env: tuple[str, ...] = option((), k.TEXTS, "Variables that agents get with the values they have here.")
    env_file: tuple[str, ...] = option((), k.FILES, "File of NAME=VALUE lines for the agents; env wins.", "--env-file")
    mounts: tuple[str, ...] = option(
        (), k.MOUNTS, "Files or folders of this machine, or volumes, in the container.", "--mount"
    )
    workspace_path: str = option("/workspace/output", k.INSIDE, "Folder in the container that gets budget.txt.")
    keep_output: bool = option(
        True, k.SWITCH, "Copy what agents wrote into the run's folder.", "--keep-output/--no-keep-output"
    )
    output_path: str | None = option(
        None, k.INSIDE, "Folder in the container that is copied; the workspace path if left out.", "--output-path"
    )
    output_timeout_s: float = option(60.0, k.SECONDS, "Time to copy one agent's files.", "--output-timeout")
    output_max_bytes: int = option(2**30, k.BYTES, "Bytes that are copied of one agent.", "--output-max-bytes")
    output_max_files: int = option(20_000, k.COUNT, "Files that are copied of one agent.", "--output-max-files")
    output_max_depth: int = option(32, k.COUNT, "Depth of nested folders that are copied.", "--output-max-depth")
    docker_args: tuple[str, ...] = option((), k.TEXTS, "Options of the engine, of those that are allowed.")
    memory: str | None = option(None, k.MEMORY, "Limit of each container, such as 2g.", "--memory")
    cpus: str | None = option(None, k.CPUS, "Limit of each container, such as 1.5.", "--cpus")
    gate: GateChoice = option(
        "auto", k.choice(GateChoice), "Containers reach the proxy by a unix socket, TCP, or what works.", "--gate"
    )
    initial_prompt: str | None = option(
        None, k.TEXT, "Sent to each agent on standard input as one JSON line.", "--prompt", key="prompt", shown=False
    )
    prompt_file: str | None = option(None, k.FILE, "The same from a file.", "--prompt-file")
    stdin: StdinChoice = option(
        "auto", k.choice(StdinChoice), "The agents' standard input; auto keeps it open after a prompt only.", "--stdin"
    )
    repeats: int = option(1, k.COUNT, "Agents for each model: NAME-1 to NAME-N, each with its own budget.", "--repeats")
    tags: Mapping[str, str] | None = option(
        None, k.TAGS, "Texts that the plan, summaries, reports and costs of the run have.", "--tag"
    )
    score: Any = option(
        None, k.SCORE, "Run here after each trial; its last line is the score: a number or JSON.", "--score"
    )
    score_image: str | None = option(
        None, k.IMAGE, "The score's command runs in a container of this image, without network.", "--score-image"
    )
    score_timeout_s: float = option(600.0, k.SECONDS, "Time to score one trial.", "--score-timeout")
    score_pass: float = option(1.0, k.NUMBER, "The least score that is a success.", "--score-pass")
    timeout_s: float | None = option(None, k.SECONDS, "A trial is ejected after this time.", "--timeout")
    idle_timeout_s: float = option(
        300.0, k.SECONDS, "A trial is ejected after this time without an event or a call.", "--idle-timeout"
    )
    notify: str | None = option(
        None, k.COMMAND, "Run here with each notice as JSON on its input: 80% spent, run done.", "--notify", shown=False
    )
    eject_policy: Any = option(None, k.OBJECT, "Ends trials early; replaces the two defaults.", key="policies")
    on_event: Any = option(None, k.OBJECT, "Called with each event that an agent prints.", key="")
    on_complete: Any = option(None, k.OBJECT, "Called with the run's folder and each result.", key="")
    parallel: bool = option(True, k.SWITCH, "False runs one trial after another.")
    max_workers: int = option(8, k.COUNT, "Trials that run at once.", "--max-workers")
    budget_mode: BudgetMode = option("simple", k.choice(BudgetMode), "detailed lists the latest actions in budget.txt.")
    runs_dir: str = option(str(RUNS_DIR), k.FOLDER, "Where the run's folder is made.", "--runs-dir")
    run_id: str | None = option(None, k.RUN_ID, "The run's name; made of the time if left out.", "--run-id", key="")
    resume: bool = option(False, k.SWITCH, "Continue a run: trials that have ended are kept.", "--resume", key="")
    retry_failed: bool = option(
        False, k.SWITCH, "With resume: run the trials that failed again.", "--retry-failed", key=""
    )
    openrouter_base_url: str | None = option(None, k.URL, "OpenRouter's API base, unless OPENROUTER_BASE_URL is set.")
    byok: bool = option(False, k.SWITCH, "Let calls run on provider keys of your OpenRouter account.")
    bound: Bound = option(
        "measured",
        *(k.choice(Bound), "New text is reserved by measured token counts, or by its bytes, which no text passes."),
        "--bound",
    )
    cache_bound: CacheBound = option(
        "write",
        *(
            k.choice(CacheBound),
            "A prompt that was billed before is reserved as a cache write; billed: as a cache read.",
        ),
        "--cache-bound",
    )
    weigh: bool = option(
        True, k.SWITCH, "Weigh a call that does not fit by a small call of parts of its text.", "--weigh/--no-weigh"
    )
    share_preambles: bool = option(
        True,
        *(k.SWITCH, "Tools and system messages that one agent was billed for are known for the others."),
        "--share-preambles/--no-share-preambles",
    )
    skip_preflight: bool = option(False, k.SWITCH, "Start without checks.", "--skip-preflight")
    preflight_kwargs: Mapping[str, Any] | None = option(None, k.OBJECT, "Arguments of the checks.", key="preflight")
    expect_tokens: int | None = option(
        None, k.COUNT, "Tokens of a first prompt; the checks say how many calls fit the budget.", "--expect-tokens"
    )
    admin_key: Secret | None = option(None, k.KEY, "A management key of OpenRouter.", key="")
    or_key: Secret | None = option(None, k.KEY, "An inference key of OpenRouter.", key="")
    log_fn: Any = option(None, k.OBJECT, "Called instead of print.", key="")

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


OPTIONS: Mapping[str, Option] = {field.name: field.metadata["option"] for field in fields(RunSettings)}
"""How each field of `RunSettings` is given, by its name."""
DEFAULTS: Mapping[str, Any] = {field.name: field.default for field in fields(RunSettings)}
KEYS: Mapping[str, str] = {
    key: name for name, option in OPTIONS.items() if (key := name if option.key is None else option.key)
}
"""The field that each key of a file sets, by the key."""


def unused_by_processes(settings: RunSettings) -> list[str]:
    """Return the names of options that have no effect on processes and are not at their defaults."""
    values = {name: getattr(settings, name) for name in OF_CONTAINERS}
    if settings.network == "host":  # the plan of such a run has it, and a resume reads it
        del values["network"]
    return [name for name, value in values.items() if value != DEFAULTS[name]]


def read_option(name: str, value: object, label: str | None = None) -> Any:  # noqa: ANN401 - whatever its kind makes
    """Return the value of an option.

    Args:
        name: The field's name.
        value: What a source gives.
        label: What errors call the option; the field's name if None.

    Raises:
        SettingError: The value is wrong. The text says what it must be.
    """
    return read_value(OPTIONS[name].kind, value, label or name)


def read_settings(values: Mapping[str, object]) -> RunSettings:
    """Return the settings that keywords of `run_multi` make. An option that is None or missing has its default.

    With `repeats`, `models` has an agent for each repeat, and budgets and arguments by alias have an entry for each agent.

    Raises:
        SettingError: A value is wrong.
        TypeError: There is no such option.
    """
    if unknown := sorted(values.keys() - OPTIONS.keys()):
        raise TypeError(f"a run has no option {', '.join(unknown)}")
    settings = RunSettings(**{name: read_option(name, value) for name, value in values.items() if value is not None})
    if settings.repeats == 1:
        return settings
    try:
        agents = repeated(settings.models, settings.repeats)
    except ValueError as exc:
        raise k.SettingError(f"repeats: {exc}.") from None
    given = {name: getattr(settings, name) for name in ("budget_usd", "container_args", "command")}
    own: dict[str, Any] = {
        name: of_agents(value, agents) for name, value in given.items() if isinstance(value, Mapping)
    }
    return replace(settings, models=agents, **own)
