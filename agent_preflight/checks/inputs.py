"""The options of the checks, and what they read from OpenRouter: each thing at most once."""

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from agent_preflight import provision
from agent_preflight.base.console import say
from agent_preflight.checks.custom import CustomCheck
from agent_preflight.checks.report import CheckLine, failed
from agent_preflight.health import InfraCheck
from agent_preflight.models import RunResult
from agent_preflight.openrouter import reachable
from agent_preflight.openrouter.patch_points import read

T = TypeVar("T")

OPENROUTER = "OpenRouter"
"""The name of the line that says why OpenRouter cannot be reached."""

Params = Mapping[str, str | Sequence[str]]
AccountBalance = tuple[float, float, float] | tuple[None, None, None]
"""The account's dollars: available, bought, used; three None if they cannot be read."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The options of one preflight, as `agent_preflight.preflight.preflight` describes them.

    Attributes:
        models: Without repetitions.
        run_trial: `run_container`. The caller passes it, because the checks cannot import the runner.
    """

    admin_key: str = field(repr=False)
    or_key: str = field(repr=False)
    models: tuple[str, ...]
    budget_per_model: float
    checks: Sequence[str] | None = None
    docker_image: str | None = None
    custom_checks: Sequence[CustomCheck] | None = None
    required_params: Params | None = None
    common_required_params: str | Sequence[str] | None = None
    site_name: str = "agent-preflight"
    infra: Sequence[InfraCheck] | None = None
    base_url: str | None = None
    budgets: Mapping[str, float] | None = None
    budget_sum: Decimal | None = None
    expect_tokens: int | None = None
    byok: bool = False
    log_fn: Callable[[str], object] = say
    run_trial: Callable[..., RunResult] | None = None

    @property
    def required(self) -> dict[str, tuple[str, ...]]:
        """The request parameters that each model must support, in order, without repetitions. One text is a list of one."""
        merged = {model: unique(as_list(self.common_required_params)) for model in self.models}
        for model, params in (self.required_params or {}).items():
            merged[model] = unique([*merged.get(model, ()), *as_list(params)])
        return {model: params for model, params in merged.items() if params}

    def budget_of(self, model: str) -> float:
        """Return the dollars that each agent of a model may spend."""
        return (self.budgets or {}).get(model, self.budget_per_model)


def cached(read: Callable[[], T]) -> Callable[[], T]:
    """Return a function that reads at its first call and returns that answer from then on. If the read raises, the next call reads.

    Threads that call it at the same time wait for one read.
    """
    lock, answer = threading.Lock(), functools.cache(read)

    def call() -> T:
        with lock:
            return answer()

    return call


class Facts:
    """What OpenRouter reports, read when a check first needs it."""

    def __init__(self, inputs: Inputs) -> None:
        self.unreachable = cached(lambda: _unreachable(inputs))
        self.balance = cached(lambda: _balance(inputs))
        self.models = cached(lambda: read(provision.get_available_models, inputs.or_key, inputs.base_url))


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """Return names without repetitions, in order."""
    return tuple(dict.fromkeys(names))


def as_list(value: str | Sequence[str] | None) -> list[str]:
    """Return one text or several as a list."""
    return [value] if isinstance(value, str) else list(value or ())


def _unreachable(inputs: Inputs) -> CheckLine | None:
    """Return the failure if OpenRouter cannot be reached: every check returns the same, and the report shows it once."""
    trouble = reachable.trouble(inputs.or_key or None, inputs.base_url)
    return failed(OPENROUTER, trouble.partition(". ")[0], trouble) if trouble else None


def _balance(inputs: Inputs) -> AccountBalance:
    """Read the balance with the management key; with the inference key if that fails, which a script's function may expect."""
    balance = read(provision.get_account_balance, inputs.admin_key, inputs.base_url)
    return balance if balance[0] is not None else read(provision.get_account_balance, inputs.or_key, inputs.base_url)
