"""The options of the checks, and what they read from OpenRouter: each thing at most once."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Generic, TypeVar

from agent_preflight import provision
from agent_preflight.base.console import say
from agent_preflight.checks.custom import CustomCheck
from agent_preflight.health import InfraCheck
from agent_preflight.models import RunResult
from agent_preflight.openrouter import reachable
from agent_preflight.openrouter.patch_points import read

T = TypeVar("T")

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
        merged = {model: unique(_as_list(self.common_required_params)) for model in self.models}
        for model, params in (self.required_params or {}).items():
            merged[model] = unique([*merged.get(model, ()), *_as_list(params)])
        return {model: params for model, params in merged.items() if params}

    def budget_of(self, model: str) -> float:
        """Return the dollars that each agent of a model may spend."""
        return (self.budgets or {}).get(model, self.budget_per_model)


class CachedAnswer(Generic[T]):
    """Reads something when it is first needed. Threads that need it at the same time wait for one answer."""

    def __init__(self, ask: Callable[[], T]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._answers: list[T] = []

    def __call__(self) -> T:
        """Return the answer. If the read raises, so does this, and the next call reads again."""
        with self._lock:
            if not self._answers:
                self._answers.append(self._ask())
            return self._answers[0]


class Facts:
    """What OpenRouter reports, read when a check first needs it."""

    def __init__(self, inputs: Inputs) -> None:
        self.trouble = CachedAnswer(lambda: reachable.trouble(inputs.or_key or None, inputs.base_url))
        self.balance = CachedAnswer(lambda: _balance(inputs))
        self.models: CachedAnswer[dict[str, dict[str, Any]] | None] = CachedAnswer(
            lambda: read(provision.get_available_models, inputs.or_key, inputs.base_url)
        )


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """Return names without repetitions, in order."""
    return tuple(dict.fromkeys(names))


def _balance(inputs: Inputs) -> AccountBalance:
    """Read the balance with the management key; with the inference key if that fails, which a script's function may expect."""
    balance = read(provision.get_account_balance, inputs.admin_key, inputs.base_url)
    return balance if balance[0] is not None else read(provision.get_account_balance, inputs.or_key, inputs.base_url)


def _as_list(params: str | Sequence[str] | None) -> list[str]:
    return [params] if isinstance(params, str) else list(params or ())
