"""From the arguments of the public functions to a `Request`: defaults, both spellings, contradictions."""

from __future__ import annotations

import inspect
import os.path
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from agent_preflight.console import say
from agent_preflight.docker.handshake import GateWish
from agent_preflight.openrouter import check_way
from agent_preflight.runner.plan import Arguments, StdinWish, Surroundings, check_env, mount_args
from agent_preflight.runner.reach import read_reach
from agent_preflight.runner.request import Request
from agent_preflight.usd import pusd, usd
from preflight_proxy.core.secret import Secret
from preflight_proxy.errors import ConfigError

SANDBOXES = ("docker", "process")


def with_defaults(function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call's arguments with the defaults of those that were not given.

    Raises:
        TypeError: One is unknown, or one that is needed is missing.
    """
    bound = inspect.signature(function).bind(**options)
    bound.apply_defaults()
    return dict(bound.arguments)


def request_of(given: Mapping[str, Any], *, single: bool = False) -> Request:
    """Return the request that the arguments of `run_multi` make.

    Args:
        given: All of them, by name.
        single: The run is the one trial of `run_container`.

    Raises:
        ConfigError: They contradict each other.
        ValueError: A variable in `env` cannot be handed over.
        TypeError: `preflight_kwargs` sets what the run itself sets.
    """
    check_way(given["openrouter_base_url"])
    return Request(
        models=list(given["models"]),
        admin_key=secret(given["admin_key"]),
        budget=given["budget_usd"],
        around=_surroundings(given),
        runs_dir=Path(given["runs_dir"]),
        run_id=_run_id(given),
        resume=given["resume"],
        retry_failed=given["retry_failed"],
        single=single,
        arguments=_command(given),
        policy=given["eject_policy"],
        idle_timeout_s=given["idle_timeout_s"],
        on_event=given["on_event"],
        on_complete=given["on_complete"],
        workers=given["max_workers"] if given["parallel"] else 1,
        base_url=given["openrouter_base_url"],
        byok=given["byok"],
        preflight=None if given["skip_preflight"] else _preflight(given),
        say=given["log_fn"] if given["log_fn"] is not None else say,
    )


def secret(key: str | Secret) -> Secret:
    """Return a key in the type that cannot be printed."""
    return key if isinstance(key, Secret) else Secret(key)


def texts(value: str | Sequence[str] | None) -> list[str]:
    """Return one text or several as a list."""
    return [value] if isinstance(value, str) else list(value or ())


def absolute_mounts(mounts: Iterable[str]) -> tuple[str, ...]:
    """Return mounts whose relative sources begin at the root, so that they mean the same in any working directory."""
    parted = (mount.partition(":") for mount in mounts)
    return tuple(f"{_absolute(source)}{colon}{target}" for source, colon, target in parted)


def _absolute(source: str) -> str:
    return os.path.normpath(Path.cwd() / source) if source.startswith(".") else source


def _run_id(given: Mapping[str, Any]) -> str | None:
    if given["resume"] and not given["run_id"]:
        raise ConfigError("resume=True needs the run_id of the run that is to go on.")
    if given["retry_failed"] and not given["resume"]:
        raise ConfigError("retry_failed=True runs failed trials of an earlier run again: it needs resume=True.")
    return None if given["run_id"] is None else str(given["run_id"])


def _surroundings(given: Mapping[str, Any]) -> Surroundings:
    sandbox = given["sandbox"]
    if sandbox not in SANDBOXES:
        raise ConfigError(f"sandbox is 'docker' or 'process', not {sandbox!r}.")
    if sandbox == "docker" and not given["image_name"]:
        raise ConfigError(
            "image_name is missing: agents in containers need an image (--image, or `image` in preflight.toml)."
        )
    if sandbox == "process" and not given["command"]:
        raise ConfigError("command is missing: agents without containers need the program to start.")
    network = given["network"] if sandbox == "docker" else "host"
    around = Surroundings(
        sandbox=sandbox,
        image=given["image_name"],
        network=network,
        env=check_env(given["env"]),
        mounts=absolute_mounts(mount_args(given["mounts"])),
        initial_prompt=given["initial_prompt"],
        budget_mode=given["budget_mode"],
        workspace_path=given["workspace_path"],
        timeout_s=given["timeout_s"],
        docker_args=tuple(given["docker_args"]),
        reach=read_reach(given["services"], given["egress"], network),
        memory=given["memory"],
        cpus=None if given["cpus"] is None else str(given["cpus"]),
        gate=_gate(given["gate"]),
        stdin=_stdin(given["stdin"]),
    )
    if sandbox == "docker":
        around.engine_options  # noqa: B018 - a wrong one is told now, before anything is made
    return around


def _gate(wish: str) -> GateWish:
    match wish:
        case "auto" | "shared" | "portable":
            return wish
    raise ConfigError(f"gate is 'auto', 'shared' or 'portable', not {wish!r}.")


def _stdin(wish: str) -> StdinWish:
    match wish:
        case "auto" | "open" | "close":
            return wish
    raise ConfigError(f"stdin is 'auto', 'open' or 'close', not {wish!r}.")


def _command(given: Mapping[str, Any]) -> Arguments | None:
    """Return what each agent is started with: for a process its command line, then the arguments."""
    command, arguments = given["command"], given["container_args"]
    if given["sandbox"] == "docker" or not arguments:
        return arguments if given["sandbox"] == "docker" else command  # type: ignore[no-any-return]  # checked in plan
    aliases = [alias for _, alias in given["models"]]
    return {alias: [*_of(command, alias), *_of(arguments, alias)] for alias in aliases}


def _of(arguments: Arguments, alias: str) -> Sequence[str]:
    return arguments.get(alias, ()) if isinstance(arguments, Mapping) else arguments


def _preflight(given: Mapping[str, Any]) -> Callable[[], object]:
    """Return the call of the checks, with what the run knows and what the script adds."""
    from agent_preflight.preflight import preflight  # the module, which the package's function of that name hides

    kwargs = dict(given["preflight_kwargs"] or {})
    ids = [*(model for model, _ in given["models"]), *texts(kwargs.pop("models", None))]
    return partial(
        preflight,
        admin_key=given["admin_key"],
        or_key=given["or_key"],
        models=list(dict.fromkeys(ids)),
        budget_per_model=_budget_per_model(given),
        docker_image=given["image_name"] or None,
        **{"base_url": given["openrouter_base_url"], **_without_twice(kwargs)},
    )


def _without_twice(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the script's own arguments of the checks.

    Raises:
        TypeError: One of them is set by the run.
    """
    if twice := sorted(kwargs.keys() & {"admin_key", "or_key", "budget_per_model", "docker_image"}):
        raise TypeError(f"preflight_kwargs sets {', '.join(twice)}, which the run itself sets")
    return kwargs


def _budget_per_model(given: Mapping[str, Any]) -> float:
    """Return dollars per model: the mean where trials differ, so that the checks' sum is the run's.

    Raises:
        ConfigError: It is no number.
    """
    budget = given["budget_usd"]
    if not isinstance(budget, Mapping):
        try:
            return float(budget)
        except (TypeError, ValueError):
            raise ConfigError(f"The budget is in dollars, such as 0.25; it is {str(budget)[:40]!r}.") from None
    amounts = [pusd(budget[alias]) for _, alias in given["models"] if alias in budget]
    return float(usd(sum(amounts))) / max(len(amounts), 1)
