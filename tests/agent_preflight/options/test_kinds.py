"""How the values of options are written, and what they are read as."""

from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest

from agent_preflight.options import kinds
from agent_preflight.options.kinds import OptionKind
from preflight_proxy.core.secret import Secret
from tests.support.cases import each


@each(
    "kind, given, value",
    [
        (kinds.SECONDS, "1.5", 1.5),
        (kinds.SECONDS, 90, 90.0),
        (kinds.SECONDS, Decimal("0.1"), 0.1),
        (kinds.COUNT, "8", 8),
        (kinds.BYTES, "1g", 2**30),
        (kinds.BYTES, 5, 5),
        (kinds.MEMORY, "2g", "2g"),
        (kinds.CPUS, 1.5, "1.5"),
        (kinds.DOLLARS, "$2", Decimal(2)),
        (kinds.DOLLARS, {"a": 1, "b": "0.5"}, {"a": Decimal(1), "b": Decimal("0.5")}),
        (kinds.TEXTS, ["a", "b"], ("a", "b")),
        (kinds.FILES, "a", ("a",)),
        (kinds.FILES, [Path("a"), "b"], ("a", "b")),
        (kinds.ARGUMENTS, ["--n", 3], ("--n", "3")),
        (kinds.ARGUMENTS, {"a": ["x"]}, {"a": ("x",)}),
        (kinds.PATH, Path("runs"), "runs"),
        (kinds.KEY, "sk-1", Secret("sk-1")),
        (kinds.SERVICES, {"los": "h:1"}, {"los": "h:1"}),
        (kinds.choice(Literal["x", "y"]), "y", "y"),
    ],
)
def test_a_value_is_read_as_a_person_means_it(kind: OptionKind, given: object, value: object) -> None:
    assert kind.read(given) == value


@each(
    "kind, given",
    [
        *((kinds.SECONDS, wrong) for wrong in (0, -1, True, float("nan"), 1e10, "1e3", "inf", "soon", None)),
        *((kinds.COUNT, wrong) for wrong in (0, -1, True, 1.5, "1.0", "8x", "", 10**13)),
        *((kinds.BYTES, wrong) for wrong in (0, True, "much", "1gg", 2**63, 1.5)),
        *((kinds.MEMORY, wrong) for wrong in ("much", True, None, "2 gig")),
        *((kinds.SWITCH, wrong) for wrong in (1, "true", None)),
        *((kinds.INSIDE, wrong) for wrong in ("relative", "", "/a:b", "/a\0", 3)),
        *((kinds.TEXTS, wrong) for wrong in ("one", [1], {"a": "b"}, 3)),
        *((kinds.ARGUMENTS, wrong) for wrong in ("one", {"a": "one"}, 3)),
        *((kinds.TEXT, wrong) for wrong in (3, None, "a\0b", "\udcff")),
        (kinds.choice(Literal["x", "y"]), "z"),
    ],
)
def test_what_is_no_value_is_a_value_error(kind: OptionKind, given: object) -> None:
    with pytest.raises(ValueError):
        kind.read(given)
