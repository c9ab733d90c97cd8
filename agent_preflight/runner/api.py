"""The functions that start runs. Each turns its arguments into one checked request, and all take the same path."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, Unpack, get_type_hints

from agent_preflight.artifacts import RUNS_DIR
from agent_preflight.base.config import Environment, variable
from agent_preflight.base.tables import text_of, width_of
from agent_preflight.base.usd import Dollars
from agent_preflight.checks.inputs import as_list
from agent_preflight.models import RunResult
from agent_preflight.options.naming import default_alias
from agent_preflight.options.settings import DEFAULTS, Models, RunOptions, TrialOptions
from agent_preflight.options.sources import read_variables, settings_of, with_keys
from agent_preflight.options.text_files import read_text
from agent_preflight.run_data import RunResults
from agent_preflight.runner.arguments import build_request
from agent_preflight.runner.field import run_field
from agent_preflight.runner.loop import StopSignal, run_blocking, run_cancellable
from agent_preflight.runner.messages import elsewhere, farewell
from agent_preflight.runs.places import answers_lines, place_lines
from agent_preflight.runs.record import read_record
from agent_preflight.runs.request import Finished, RunRequest
from agent_preflight.views.run_table import figures_now, run_parts
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.secret import Secret

Key = str | Secret | None
P = ParamSpec("P")
T = TypeVar("T")


def lists_keywords(options: type) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return the decorator of a function whose `**options` are a TypedDict: its signature lists each, and a call is checked by it.

    Defaults are those of `RunSettings`. `budget_usd` has none, because a script must say what an agent may spend.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        own = inspect.signature(function)
        named = [each for each in own.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        listed = [_keyword(name, kind) for name, kind in get_type_hints(options).items()]
        signature = own.replace(parameters=[*named, *listed])

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            signature.bind(*args, **kwargs)
            return function(*args, **kwargs)

        call.__signature__ = signature  # type: ignore[attr-defined]  # what `inspect.signature` reads
        return call

    return decorate


def _keyword(name: str, kind: object) -> inspect.Parameter:
    own = {"runs_dir": RUNS_DIR, "budget_usd": inspect.Parameter.empty, "mounts": None}
    default = own.get(name, DEFAULTS[name])
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def request_of(options: Mapping[str, Any], *, single: bool = False) -> RunRequest:
    """Return the request that the keywords of `run_multi` make. Raises as `run_multi`."""
    env = read_variables(options, {}, read_text).values
    settings = settings_of(with_keys(options, Environment.read()), env, variable, read_text)
    return build_request(settings, run_container, single=single)


@lists_keywords(RunOptions)
def run_multi(models: Models, **options: Unpack[RunOptions]) -> list[RunResult]:
    """Run one agent for each model, each under its own budget.

    Works in any thread, also where an event loop runs. Ctrl-C ends every trial in order; a second Ctrl-C does not wait for
    costs that are not known yet.

    Afterwards no container, network or sub-key of the run is left. If that could not be confirmed, `preflight["cleanup"]` of the
    result says which step. Each result is also in `runs_dir/run_id/alias/summary.json`.

    Args:
        models: The models, one agent each: ids, `"ID=ALIAS"`, or pairs of id and alias.
        image_name: The agents' image. Not needed for the process sandbox.
        admin_key: A management key of OpenRouter, which makes and deletes the sub-key of each trial; `OR_ADMIN_KEY` if None.
        or_key: An inference key, for the checks before the run; `OPENROUTER_API_KEY` if None.
        budget_usd: Dollars for each trial, such as `0.25` or `"$2"`, or a mapping of alias to dollars.
        runs_dir: The folder in which the run's folder is made.
        run_id: The name of the run; None makes one from the time.
        env: Variables for the agents. `OPENROUTER_API_KEY` is always the trial's token.
        mounts: `(host, container, mode)` or `"host:container:mode"`.
        initial_prompt: Sent to each agent on its standard input as one JSON line.
        container_args: Arguments after the image, for all trials or by alias.
        eject_policy: A policy, which is copied for each trial, or a function that makes one. It replaces the default policies.
        on_event: Called with each event that an agent prints, in order. An exception ends that trial. In another thread it is
            called with each notice, which has the type `preflight_notice`; an exception there ends nothing.
        on_complete: Called with the run's folder and each result.
        budget_mode: `"simple"`, or `"detailed"` for the long budget.txt.
        idle_timeout_s: Seconds without activity after which the default policies eject.
        parallel: False runs one trial after another.
        max_workers: How many trials run at once.
        skip_preflight: True starts without checks of the account.
        preflight_kwargs: Further arguments of `preflight`. Its `models` are checked in addition to those of the run.
        network: `"bridge"`, `"sealed"` or the name of a Docker network.
        timeout_s: Seconds after which a trial is ejected; None sets no limit.
        sandbox: `"docker"` or `"process"`.
        workspace_path: The folder in the container that gets budget.txt.
        log_fn: Takes each line that the run would print.
        openrouter_base_url: OpenRouter's API base; `OPENROUTER_BASE_URL`, else OpenRouter, if None.
        command: The agents' command line for the process sandbox, for all or by alias; `container_args` follow it.
        docker_args: Options of the engine for the agents' containers, of those that are allowed.
        services: Services that agents reach by name: `{"los": "127.0.0.1:3000"}` makes `http://los:3000`, sealed or not.
        egress: Places that a sealed agent reaches through an HTTP proxy, such as `["pypi.org:443"]`.
        memory: Memory of each agent's container, such as `"2g"`; None sets no limit.
        cpus: Processors of each agent's container, such as `1.5`; None sets no limit.
        gate: How containers reach the proxy. `"shared"` is over a unix socket. `"portable"` is over TCP, for engines that share
            no sockets, such as Docker Desktop. `"auto"` takes the first that works.
        byok: True if calls may run on provider keys that your OpenRouter account holds. With False, an endpoint that does so is
            not used again.
        bound: How the tokens of new text are bounded. `"measured"` reserves what measured text of any natural kind needs.
            `"proven"` reserves each byte, which no text passes, and leaves more of a budget unused.
        cache_bound: The price at which a prompt that was billed before is reserved: `"write"`, or `"billed"`, that of a cache read.
        weigh: True if a call that does not fit may be weighed by a small call of parts of its text.
        share_preambles: True if tools and leading system messages that one agent was billed for are known for the others.
        resume: True continues the run `run_id`. Trials that have ended keep their results; interrupted ones start again with
            what is left of their budget. The options of the trials must be as they were. Only `budget_usd` may be higher, and
            then trials that had spent their budget start again too.
        stdin: The agents' standard input. `"open"` keeps it open, `"close"` ends it at the start, after the prompt if there is
            one. `"auto"` is `"open"` with an `initial_prompt`, else `"close"`.
        keep_output: True copies what agents wrote into the run's folder.
        output_path: The folder in the container that is copied; `workspace_path` if None.
        output_timeout_s: Seconds that copying the files of one agent may take.
        output_max_bytes: Bytes that are copied of one agent, or a size such as `"1g"`.
        output_max_files: Files that are copied of one agent.
        output_max_depth: How deep in folders files are copied.
        env_file: A file of `NAME=VALUE` lines for the agents, or several; `env` wins.
        prompt_file: A file with the prompt, instead of `initial_prompt`.
        expect_tokens: Tokens of an agent's first prompt. The checks say how many calls the budget pays for.
        retry_failed: With `resume`: True starts the trials that failed again.
        score: Scores each trial after its end. A function gets the result and the folder of what the agent wrote, or None, and
            returns a number, a bool, or a mapping whose `score` is one of these and whose `success` is a bool. A text is run by
            `/bin/sh -c`, and the last line of its output is the score, as JSON. A score that fails is None, with a reason.
        score_image: An image of this machine: the command runs in a container of it, without network.
        score_timeout_s: Seconds that scoring one trial may take.
        score_pass: The least score that is a success, unless the score says so itself.
        tags: Texts by name, such as `{"task": "refactor"}`, for plan, summaries, reports and costs.
        repeats: How many agents each model has. They are `NAME-1` to `NAME-N`, and each has its own budget. Mappings by alias take
            the model's alias for all its repeats, or that of one.
        notify: A command, which `/bin/sh -c` runs with each notice as JSON on its standard input: 80% of a budget is spent, a
            trial was ejected or has spent its budget, no credit, drift, the run is over. `on_event` gets the same notices.

    Returns:
        The results, one for each model, in the order of `models`; with `repeats` the first of each model, then the second of each.
        A trial that failed or was ejected has an `error`; nothing is raised for it. A notebook shows the list as a table.

    Raises:
        ConfigError: The arguments cannot be used. Nothing was started. If a value is wrong, it is a ValueError too.
        PreflightError: A check failed. No trial was started.
        OperatingError: No trial could be started.
        KeyboardInterrupt: Ctrl-C, raised after every trial has been ended.
    """
    request = request_of({"models": models, **options})
    return run_blocking(lambda stop: _run_and_report(request, stop))


async def arun_multi(models: Models, **options: Unpack[RunOptions]) -> list[RunResult]:
    """Run as `run_multi` does, in the caller's event loop, with the same errors.

    Cancelling it ends every trial in order before `CancelledError` is raised.

    Args:
        models: As for `run_multi`.
        **options: The keyword arguments of `run_multi`.

    Returns:
        The results, in the order of `models`.
    """
    inspect.signature(run_multi).bind(models, **options)
    request = request_of({"models": models, **options})
    return await run_cancellable(lambda stop: _run_and_report(request, stop))


def run_single(
    model_id: str,
    *,
    image_name: str,
    admin_key: Key = None,
    or_key: Key = None,
    budget_usd: Dollars = 0.10,
    alias: str | None = None,
    extra_models: Sequence[str] | None = None,
    runs_dir: str | Path = RUNS_DIR,
    run_id: str | None = None,
    **kwargs: Any,  # noqa: ANN401 - those of run_multi
) -> RunResult:
    """Run one agent for one model, with the checks before it.

    Args:
        model_id: The model's id.
        image_name: The agent's image; `""` for the process sandbox.
        admin_key: A management key of OpenRouter; `OR_ADMIN_KEY` if None.
        or_key: An inference key, for the checks; `OPENROUTER_API_KEY` if None.
        budget_usd: Dollars, such as `0.25` or `"$2"`.
        alias: The trial's name; None makes one from the model's id.
        extra_models: Further models that the agent uses. They are checked before the run.
        runs_dir: The folder in which the run's folder is made.
        run_id: The name of the run; None makes one from the time.
        **kwargs: Further arguments of `run_multi`.

    Returns:
        The trial's result. A trial that failed or was ejected has an `error`; nothing is raised for it.

    Raises:
        ConfigError: `repeats` is given. The other errors are those of `run_multi`.
    """
    if kwargs.get("repeats", 1) != 1:
        raise ConfigError("run_single runs one trial: use run_multi for repeats. Nothing was started.")
    preflight_kwargs = dict(kwargs.pop("preflight_kwargs", None) or {})
    if extra_models:
        preflight_kwargs["models"] = [*extra_models, *as_list(preflight_kwargs.get("models"))]
    results = run_multi(
        [(model_id, alias if alias is not None else default_alias(model_id))],
        image_name=image_name,
        admin_key=admin_key,
        or_key=or_key,
        budget_usd=budget_usd,
        runs_dir=runs_dir,
        run_id=run_id,
        preflight_kwargs=preflight_kwargs,
        **{"parallel": False, **kwargs},
    )
    return results[0]


@lists_keywords(TrialOptions)
def run_container(  # noqa: D417 - the other arguments are those of run_multi
    *,
    image_name: str,
    model_id: str,
    alias: str,
    budget_usd: Dollars,
    run_dir: str | Path,
    run_id: str,
    **options: Unpack[TrialOptions],
) -> RunResult:
    """Run one trial without preflight, in the folder `run_dir/alias`, as a run of its own with its own proxy and ledger.

    Several may run at once with one `run_dir`. All other arguments are those of `run_multi`; the errors are too, but for
    `PreflightError`.

    Args:
        model_id: The model's id.
        alias: The trial's name, also the name of its folder.
        budget_usd: Dollars, such as `0.25` or `"$2"`.
        run_dir: The folder in which the trial's folder is made.
        run_id: The name of the run.
        container_args: Arguments after the image.
        command: The agent's command line for the process sandbox; `container_args` follow it.

    Returns:
        The trial's result. A trial that failed or was ejected has an `error`; nothing is raised for it.

    Raises:
        ConfigError: The arguments cannot be used. Nothing was started. If a value is wrong, it is a ValueError too.
        OperatingError: The trial could not be started.
        KeyboardInterrupt: Ctrl-C, raised after the trial has been ended.
    """
    own = {"image_name": image_name, "budget_usd": budget_usd, "runs_dir": run_dir, "run_id": run_id}
    request = request_of({"models": [(model_id, alias)], **options, **own, "skip_preflight": True}, single=True)
    finished = run_blocking(lambda stop: run_field(request, stop))
    return finished.results[0]


async def _run_and_report(request: RunRequest, stop: StopSignal) -> list[RunResult]:
    """Run the trials, also to their ends after Ctrl-C, and print the final table and how to resume a run that is not complete."""
    finished = await run_field(request, stop)
    for line in (*_table_lines(finished, elsewhere(request)), *farewell(request, finished)):
        request.say(line)
    return RunResults(finished.results, finished.run_dir)


def _table_lines(finished: Finished, where: str) -> Iterator[str]:
    """Yield the final table and where the files are; nothing if no trial has a result."""
    if not finished.results:
        return
    run = figures_now(read_record(finished.run_dir))
    yield ""
    yield from text_of(*run_parts(run), width=width_of(sys.stdout)).split("\n")
    if (share := run.totals.tokens.cache_share) is not None:
        yield f"Cache: {share:.1%} of {run.totals.tokens.prompt:,} prompt tokens came from a cache"
    yield from place_lines(finished.run_dir, where)
    yield from answers_lines(finished.results, finished.run_dir)
