"""Runs the checks before a run and prints their report: money, models, keys, caching, images, services.

All checks that make no test key run, whatever fails. Checks that do not depend on each other run side by side; the report keeps
its order. Checks that make a test key run last, and only if nothing has failed.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from agent_preflight.base import config
from agent_preflight.base.console import say
from agent_preflight.checks import account, bound, caching, custom, images, keys, machine, models, proxy_path, report
from agent_preflight.checks import estimate as estimates
from agent_preflight.checks.inputs import Facts, Inputs, unique
from agent_preflight.checks.line import CheckLine, failed, warned
from agent_preflight.checks.schedule import Job, run_in_order
from agent_preflight.openrouter.http import check_way
from agent_preflight.openrouter.reachable import UNREACHABLE

BUILT_IN = {
    "balance": (account.check_balance, "Account balance"),
    "math": (account.check_math, "Provisioning budget"),
    "models": (models.check_models, "Model availability"),
    "estimate": (estimates.check_estimate, estimates.NAME),
    "tool_support": (models.check_tool_support, "Parameter support"),
    "api_key": (keys.check_api_key, keys.OWN),
    "docker_image": (images.check_docker_image, "Docker image"),
    "clock": (machine.check_clock, machine.CLOCK),
    "disk": (machine.check_disk, machine.DISK),
    "docker_socket": (machine.check_docker_socket, machine.SOCKET),
    "key_smoke": (keys.check_key_smoke, keys.NAME),
    "cache_smoke": (caching.check_cache_smoke, caching.NAME),
    "bound_smoke": (bound.check_bound_smoke, bound.NAME),
    "proxy_path": (proxy_path.check_proxy_path, proxy_path.NAME),
}
"""The built-in checks by name, in the order of the report. Each value is the check and its label in the report."""

MAKE_KEYS = ("key_smoke", "cache_smoke", "bound_smoke", "proxy_path")
"""Checks that make a test key and spend a little. They run after all others, a script's own included."""

DEFAULT = ("balance", "math", "models", "estimate", "api_key", "key_smoke", "cache_smoke")
"""The checks that run by default. `tool_support` and `docker_image` are added if there is something to check.

The others run only if they are named: `bound_smoke` makes a call for each endpoint of each model, and `proxy_path` starts a
container and makes one call.
"""

LIMIT_S = 120.0
"""The time of a built-in check, in seconds: two calls of 30 s, the making and deleting of a key, the list of models."""

OWN_LIMIT_S = 300.0
"""The time of a script's own check, in seconds. It may build something."""


class PreflightError(RuntimeError):
    """A check failed. Nothing was started. `str()` gives the number of failures and each failure on a line.

    Args:
        failures: What failed.

    Attributes:
        failures: What failed, one text each.
    """

    def __init__(self, failures: list[str]) -> None:
        self.failures = failures
        listed = "\n  ".join(failures) or "none"
        super().__init__(f"Preflight failed ({len(failures)} issue(s)): {listed}")

    @property
    def below_report(self) -> str:
        """The line to print below a report that lists the failures already."""
        count = len(self.failures)
        return (
            f"Preflight failed: mend the {'problem' if count == 1 else f'{count} problems'} above, then run this again."
        )


def check_all(inputs: Inputs, *, found: Sequence[CheckLine] = (), raise_on_failure: bool = True) -> list[str]:
    """Run the checks, print the report, and return what failed: an empty list if all passed.

    Args:
        inputs: What to check.
        found: Lines on this machine that are known already. They stand first in the report, and their failures count.
        raise_on_failure: Raise if something failed.

    Raises:
        PreflightError: Something failed, and ``raise_on_failure`` is set.
        ConfigError: The environment names an HTTP proxy that cannot be used. Nothing was checked.
    """
    check_way(inputs.base_url)
    failures = _print_report(run_checks(inputs, found), inputs.log_fn)
    if failures and raise_on_failure:
        raise PreflightError(failures)
    return failures


def run_checks(inputs: Inputs, found: Sequence[CheckLine] = ()) -> Iterator[CheckLine]:
    """Yield the lines of the report in order while the checks run, each as soon as it is known.

    Args:
        inputs: What to check.
        found: Lines on this machine that are known already. They come first.
    """
    names, facts, has_failed = _names(inputs), Facts(inputs), False
    for line in (*found, *_unknown_names(names)):
        has_failed |= line.ok is False
        yield line
    has_image = any(line.name == images.image_name(inputs.docker_image or "") for line in found)
    free = [name for name in names if name not in MAKE_KEYS and not (name == "docker_image" and has_image)]
    results = run_in_order([*_jobs(inputs, facts, free), *_own_jobs(inputs, facts, names)])
    for line in _without_repeats(inputs, facts, chain.from_iterable(results)):
        has_failed |= line.ok is False
        yield line
    makers = [name for name in names if name in MAKE_KEYS]
    if has_failed:
        yield from _not_run([label for name, (_, label) in BUILT_IN.items() if name in makers])
        return
    yield from chain.from_iterable(run_in_order(list(_jobs(inputs, facts, makers))))


def _names(inputs: Inputs) -> tuple[str, ...]:
    """Return the names of the checks that run."""
    if inputs.checks is not None:
        return (inputs.checks,) if isinstance(inputs.checks, str) else unique(inputs.checks)
    more = [("tool_support", inputs.required), ("docker_image", inputs.docker_image)]
    return (*DEFAULT, *(name for name, wanted in more if wanted))


def _unknown_names(names: Sequence[str]) -> Iterator[CheckLine]:
    for name in names:
        if name not in BUILT_IN:
            yield warned(f"Unknown check '{name}'", f"not run; known are {', '.join(BUILT_IN)}")


def _not_run(labels: Sequence[str]) -> Iterator[CheckLine]:
    if labels:
        why = "it makes a test key" if len(labels) == 1 else "they make test keys"
        yield warned(", ".join(labels), f"not run: {why}, and something else failed")


def _without_repeats(inputs: Inputs, facts: Facts, lines: Iterable[CheckLine]) -> Iterator[CheckLine]:
    """Leave out what an earlier line says: that OpenRouter cannot be reached, and that it has no such model."""
    known = set[str]()
    for line in lines:
        if line.detail == UNREACHABLE:
            trouble = facts.trouble()
            if trouble not in known:
                yield failed("OpenRouter", trouble.partition(". ")[0], trouble)
            known.add(trouble)
        elif line.name not in known:
            yield line
        if line.ok is False:
            known |= {estimates.name_of(model) for model in inputs.models if models.name_of(model) == line.name}


def _jobs(inputs: Inputs, facts: Facts, names: Sequence[str]) -> Iterator[Job]:
    for name, (check, label) in BUILT_IN.items():
        if name in names:
            yield Job(partial(check, inputs, facts), partial(_crashed, label), LIMIT_S, lane=name)


def _own_jobs(inputs: Inputs, facts: Facts, names: Sequence[str]) -> Iterator[Job]:
    """Yield a script's own checks. They run one after another, as the script would run them."""
    context = partial(_context, inputs, facts, names)
    for own in inputs.custom_checks or ():
        yield Job(partial(custom.run_custom, own, context), partial(custom.crashed_custom, own), OWN_LIMIT_S, "own")
    for infra in inputs.infra or ():
        yield Job(partial(custom.run_infra, infra), partial(custom.crashed_infra, infra), OWN_LIMIT_S, "own")


def _crashed(label: str, reason: str) -> CheckLine:
    return failed(label, reason, f"{label}: {reason}")


def _context(inputs: Inputs, facts: Facts, names: Sequence[str]) -> Mapping[str, Any]:
    """Return what a script's own check may read."""
    return {
        "admin_key": inputs.admin_key,
        "or_key": inputs.or_key,
        "models": list(inputs.models),
        "budget_per_model": inputs.budget_per_model,
        "checks": sorted(names),
        "docker_image": inputs.docker_image,
        "site_name": inputs.site_name,
        "required_params": {model: list(params) for model, params in inputs.required.items()},
        "balance": facts.balance().available,
        "available_models": facts.models(),
    }


def _print_report(lines: Iterator[CheckLine], log_fn: Callable[[str], object]) -> list[str]:
    """Print the report line by line, and return the failures, each once."""
    for text in report.head():
        log_fn(text)
    colour = log_fn is say and sys.stdout.isatty() and not config.variable("NO_COLOR")
    failures, warnings = list[str](), 0
    for line in lines:
        warnings += line.ok is None and not line.is_skipped
        log_fn(report.line_text(line, colour=colour))
        if line.failure and line.failure not in failures:  # one cause may fail several checks
            failures.append(line.failure)
    for text in report.foot(failures, warnings=warnings):
        log_fn(text)
    return failures
