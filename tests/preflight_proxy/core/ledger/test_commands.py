"""The commands as a whole."""

from typing import get_args

import msgspec

from preflight_proxy.core.ledger import commands
from preflight_proxy.core.ledger.commands import Command
from tests.support.cases import each


@each("kind", get_args(Command))
def test_every_command_is_frozen_and_its_amounts_are_integers(kind: type[msgspec.Struct]) -> None:
    """Money is int pico-USD (M1)."""
    assert kind.__struct_config__.frozen
    amounts = [field.type for field in msgspec.structs.fields(kind) if field.name.endswith("_pusd")]
    assert all(amount in (int, int | None) for amount in amounts)


def test_no_command_is_left_out_of_the_union() -> None:
    """The transition function answers the union; a command beside it would fall through."""
    written = {
        value
        for name, value in vars(commands).items()
        if isinstance(value, type) and name not in ("CallFacts", "Cause", "PromptRate")
    }
    assert written == set(get_args(Command))
