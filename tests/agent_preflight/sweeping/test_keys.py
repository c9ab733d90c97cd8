"""Sub-keys are deleted by name, and what was counted for them is kept."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from agent_preflight.openrouter.subkeys import create
from agent_preflight.sweeping.keys import KeyDeletions, SubKeys, remember
from openrouter_sim import Simulator
from preflight_proxy.core.errors import UpstreamError

EXPIRES = "2999-01-31T23:59:59Z"


def sub_keys(simulator: Simulator, *, dry_run: bool = False) -> SubKeys:
    return SubKeys(simulator.admin_key, simulator.base_url, dry_run=dry_run)


def names(simulator: Simulator) -> set[str]:
    return {key.name for key in simulator.account.keys.values() if not key.deleted}


@pytest.mark.wire
def test_all_keys_of_a_name_go_and_no_others(simulator: Simulator) -> None:
    for name in ("a", "a", "b"):
        create(simulator.admin_key, name, Decimal(1), EXPIRES, simulator.base_url)
    done = sub_keys(simulator).delete(["a", "never made"], {})
    assert done == KeyDeletions({"a": Decimal(0), "never made": None}, ())
    assert done.deleted == ["a"]
    assert names(simulator) & {"a", "b"} == {"b"}


@pytest.mark.wire
def test_a_rehearsal_deletes_nothing(simulator: Simulator) -> None:
    create(simulator.admin_key, "a", Decimal(1), EXPIRES, simulator.base_url)
    assert sub_keys(simulator, dry_run=True).delete(["a"], {}).deleted == ["a"]
    assert "a" in names(simulator)


@pytest.mark.wire
def test_a_key_whose_usage_is_needed_stays_and_the_other_goes(simulator: Simulator) -> None:
    key = create(simulator.admin_key, "a", Decimal(1), EXPIRES, simulator.base_url)
    create(simulator.admin_key, "b", Decimal(1), EXPIRES, simulator.base_url)
    found = sub_keys(simulator)
    assert found.usages()[key.hash] == 0
    assert found.delete(["a", "b"], {key.hash: "why"}) == KeyDeletions({"b": Decimal(0)}, (), {"a": "why"})
    assert names(simulator) & {"a", "b"} == {"a"}


@pytest.mark.wire
def test_keys_that_cannot_be_listed_are_no_empty_list(simulator: Simulator) -> None:
    with pytest.raises(UpstreamError):
        SubKeys("sk-or-wrong", simulator.base_url, dry_run=False)


def test_what_was_counted_is_kept_beside_what_earlier_sweeps_saw(tmp_path: Path) -> None:
    remember(tmp_path, KeyDeletions({}, ("left",)))
    assert list(tmp_path.iterdir()) == []
    remember(tmp_path, KeyDeletions({"a": Decimal("0.5")}, ()))
    remember(tmp_path, KeyDeletions({"b": None}, ()))
    kept = json.loads((tmp_path / "swept.json").read_text())["keys"]
    assert {name: row["usage_usd"] for name, row in kept.items()} == {"a": "0.5", "b": None}
