"""Which rule speaks and which faults strike, for one scenario, by the seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

from openrouter_sim.base.errors import bad_request
from openrouter_sim.calls.call import SimRequest
from openrouter_sim.calls.reply import SimReply, compose, directive
from openrouter_sim.calls.scenario import FaultRule, Rule, Scenario
from openrouter_sim.faults import Fault, make_fault


class Director:
    """A scenario being played: it counts how often each rule was used, and in `strikes` each fault by name."""

    def __init__(self, scenario: Scenario, random: Random, strikes: Counter[str] | None = None) -> None:
        self.scenario = scenario
        self.strikes: Counter[str] = Counter() if strikes is None else strikes
        self._random = random
        self._seen: Counter[int] = Counter()
        self._struck: Counter[int] = Counter()

    def early(self, *apis: str | None) -> list[Fault]:
        """Return the faults that strike before the body is read, of the rules that name one of `apis`."""
        rules = [(i, rule) for i, rule in self._rules(is_early=True) if rule.api in apis]
        return [rule.fault for i, rule in rules if self._strikes(i, rule)]

    def late(self, api: str, ask: SimRequest, model: str) -> tuple[list[Fault], SimReply]:
        """Return the faults that strike this call, and what the model would say.

        Raises:
            ApiError: 400 for a directive that cannot be understood.
        """
        rules = [(i, rule) for i, rule in self._rules(is_early=False) if _concerns(rule, api, ask, model)]
        faults = [rule.fault for i, rule in rules if self._strikes(i, rule)]
        steered = self._directive(ask)
        if steered is None:
            return faults, compose(self._speaking(ask, model), self.scenario, self._random)
        rule, fault = steered
        if fault is not None:
            self.strikes[fault.name] += 1
            faults.append(fault)
        return faults, compose(rule, self.scenario, self._random)

    def _directive(self, ask: SimRequest) -> tuple[Rule, Fault | None] | None:
        if not self.scenario.directives:
            return None
        try:
            found = directive(ask.last_text)
            return found and (found[0], None if found[1] is None else make_fault(found[1]))
        except ValueError as exc:
            raise bad_request(f"[[sim]]: {exc}") from exc

    def _speaking(self, ask: SimRequest, model: str) -> Rule | None:
        for index, rule in enumerate(self.scenario.replies):
            if _speaks(rule, ask, model) and (rule.times is None or self._seen[-1 - index] < rule.times):
                self._seen[-1 - index] += 1
                return rule
        return None

    def _rules(self, *, is_early: bool) -> Iterator[tuple[int, FaultRule]]:
        return ((i, rule) for i, rule in enumerate(self.scenario.faults) if rule.fault.is_early is is_early)

    def _strikes(self, index: int, rule: FaultRule) -> bool:
        self._seen[index] += 1
        if self._seen[index] <= rule.after or (rule.times is not None and self._struck[index] >= rule.times):
            return False
        if rule.probability < 1 and self._random.random() >= rule.probability:
            return False
        self._struck[index] += 1
        self.strikes[rule.fault.name] += 1
        return True


def _concerns(rule: FaultRule, api: str, ask: SimRequest, model: str) -> bool:
    return (
        rule.api in {None, api}
        and rule.model in {None, model}
        and rule.stream in {None, ask.stream}
        and (rule.contains is None or rule.contains in ask.last_text)
    )


def _speaks(rule: Rule, ask: SimRequest, model: str) -> bool:
    return (
        rule.model in {None, model}
        and rule.role in {None, ask.last_role}
        and (rule.contains is None or rule.contains in ask.last_text)
    )
