"""What the checks are told, and what they learn from OpenRouter: each thing asked for at most once."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Generic, TypeVar

from agent_preflight import provision
from agent_preflight.openrouter import reachable
from agent_preflight.openrouter.patch_points import in_force, is_replaced

T = TypeVar("T")

Params = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True, slots=True)
class Inputs:
    """The arguments of one preflight; ``models`` without repetitions, ``required`` merged, by model.

    ``budgets`` has the dollars of models whose budget is not ``budget_per_model``; ``budget_sum`` is what all agents may spend
    together, None where that is the sum over the models. ``expect_tokens`` is None where the user has
    not said how large a first prompt is.
    """

    admin_key: str
    or_key: str
    models: tuple[str, ...]
    budget_per_model: float
    docker_image: str | None = None
    required: Mapping[str, tuple[str, ...]] | None = None
    site_name: str = "agent-preflight"
    base_url: str | None = None
    budgets: Mapping[str, float] = field(default_factory=dict)
    budget_sum: Decimal | None = None
    expect_tokens: int | None = None
    byok: bool = False


@dataclass(frozen=True, slots=True)
class Balance:
    """The account's dollars; three None where they cannot be read."""

    available: float | None
    purchased: float | None
    used: float | None


class Once(Generic[T]):
    """Asks for something when it is first needed; whoever comes meanwhile waits for that answer."""

    def __init__(self, ask: Callable[[], T]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._answers: list[T] = []

    def __call__(self) -> T:
        """Return the answer; raise what asking raised, and ask again next time."""
        with self._lock:
            if not self._answers:
                self._answers.append(self._ask())
            return self._answers[0]


class Facts:
    """What OpenRouter knows, fetched when a check first asks."""

    def __init__(self, inputs: Inputs) -> None:
        self.trouble = Once(lambda: reachable.trouble(inputs.or_key or None, inputs.base_url))
        self.balance = Once(lambda: _balance(inputs))
        self.models: Once[dict[str, dict[str, Any]] | None] = Once(
            lambda: _ask(provision.get_available_models, inputs.or_key, inputs)
        )


def merge_required(
    models: Sequence[str], own: Params | None, common: str | Sequence[str] | None
) -> dict[str, tuple[str, ...]]:
    """Return the parameters that each model must support, in order, without repetitions.

    Args:
        models: the models that the common ones hold for.
        own: parameters by model; may name others than ``models``. One text stands for a list of one.
        common: parameters of all ``models``.
    """
    merged = {model: unique(_as_list(common)) for model in models}
    for model, params in (own or {}).items():
        merged[model] = unique([*merged.get(model, ()), *_as_list(params)])
    return {model: params for model, params in merged.items() if params}


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """Return names without repetitions, in order."""
    return tuple(dict.fromkeys(names))


def _balance(inputs: Inputs) -> Balance:
    """Only a management key may read credits; a script's own function may expect the other."""
    found = Balance(*_ask(provision.get_account_balance, inputs.admin_key, inputs))
    if found.available is not None:
        return found
    return Balance(*_ask(provision.get_account_balance, inputs.or_key, inputs))


def _ask(reader: Callable[..., T], key: str, inputs: Inputs) -> T:
    """Call a reader of ours, or a script's own, which takes a key and nothing else."""
    return in_force(reader)(key) if is_replaced(reader) else reader(key, base_url=inputs.base_url)


def _as_list(params: str | Sequence[str] | None) -> list[str]:
    return [params] if isinstance(params, str) else list(params or ())
