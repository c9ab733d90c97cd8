"""Decides which reply and which faults a call gets, by the scenario and the seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

from openrouter_sim.base.errors import bad_request
from openrouter_sim.calls.call import SimRequest
from openrouter_sim.calls.reply import SimReply, compose, directive
from openrouter_sim.calls.scenario import Fault, FaultRule, Rule, Scenario
from openrouter_sim.faults import make_fault


class Director:
    """Applies a scenario to calls. Counts the uses of each rule, and in `strikes` those of each fault by name."""

    def __init__(self, scenario: Scenario, random: Random, strikes: Counter[str] | None = None) -> None:
        self.scenario = scenario
        self.strikes: Counter[str] = Counter() if strikes is None else strikes
        self._random = random
        self._seen: Counter[int] = Counter()
        self._struck: Counter[int] = Counter()

    def early(self, *apis: str | None) -> list[Fault]:
        """Return the faults that act before the body is read, of the rules for one of `apis`."""
        rules = [(i, rule) for i, rule in self._rules(is_early=True) if rule.api in apis]
        return [rule.fault for i, rule in rules if self._strikes(i, rule)]

    def late(self, api: str, request: SimRequest, model: str) -> tuple[list[Fault], SimReply]:
        """Return the faults of this call, and the reply of the model before any bound.

        Raises:
            ApiError: 400 for an invalid directive.
        """
        rules = [(i, rule) for i, rule in self._rules(is_early=False) if _applies(rule, api, request, model)]
        faults = [rule.fault for i, rule in rules if self._strikes(i, rule)]
        directions = self._directive(request)
        if directions is None:
            return faults, compose(self._reply_rule(request, model), self.scenario, self._random)
        rule, fault = directions
        if fault is not None:
            self.strikes[fault.name] += 1
            faults.append(fault)
        return faults, compose(rule, self.scenario, self._random)

    def _directive(self, request: SimRequest) -> tuple[Rule, Fault | None] | None:
        if not self.scenario.directives:
            return None
        try:
            directions = directive(request.last_text)
            return directions and (directions[0], None if directions[1] is None else make_fault(directions[1]))
        except ValueError as exc:
            raise bad_request(f"[[sim]]: {exc}") from exc

    def _reply_rule(self, request: SimRequest, model: str) -> Rule | None:
        for index, rule in enumerate(self.scenario.replies):
            if _matches(rule, request, model) and (rule.times is None or self._seen[-1 - index] < rule.times):
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


def _applies(rule: FaultRule, api: str, request: SimRequest, model: str) -> bool:
    return (
        rule.api in {None, api}
        and rule.model in {None, model}
        and rule.stream in {None, request.stream}
        and (rule.contains is None or rule.contains in request.last_text)
    )


def _matches(rule: Rule, request: SimRequest, model: str) -> bool:
    return (
        rule.model in {None, model}
        and rule.role in {None, request.last_role}
        and (rule.contains is None or rule.contains in request.last_text)
    )
