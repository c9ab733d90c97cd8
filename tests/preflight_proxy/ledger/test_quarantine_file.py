"""The user's list of endpoints out of use."""

import fcntl
import os
import threading
from pathlib import Path

import pytest
from msgspec.structs import replace

from preflight_proxy.core.ledger.rows import QuarantinedEndpoint
from preflight_proxy.ledger import quarantine_file
from preflight_proxy.ledger.quarantine_file import QuarantineFile

FIRST = QuarantinedEndpoint("m/x", "t", "billed 2, reserved 1", 1.0)
SECOND = QuarantinedEndpoint("m/y", "u", "by hand", 2.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """In a directory that does not exist yet."""
    return tmp_path / "state" / "quarantine.jsonl"


def test_what_one_proxy_lists_every_other_reads(path: Path) -> None:
    """The newest line of an endpoint stands."""
    QuarantineFile(path).add(FIRST)
    QuarantineFile(path).add(SECOND)
    newer = QuarantinedEndpoint("m/x", "t", "again", 3.0)
    QuarantineFile(path).add(newer)
    assert QuarantineFile(path).read() == [newer, SECOND]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_without_a_file_nothing_is_listed(path: Path) -> None:
    """And reading or clearing makes none."""
    assert QuarantineFile(path).read() == []
    assert not QuarantineFile(path).clear("m/x", "t")
    assert not path.parent.exists()


def test_a_person_clears_one_endpoint(path: Path) -> None:
    """The others stay."""
    listed = QuarantineFile(path)
    listed.add(FIRST)
    listed.add(SECOND)
    assert listed.clear("m/x", "t")
    assert not listed.clear("m/x", "t")
    assert listed.read() == [SECOND]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_damaged_line_does_not_lose_the_others(path: Path) -> None:
    """Fail closed: what can be read stays out of use."""
    listed = QuarantineFile(path)
    listed.add(FIRST)
    with path.open("ab") as file:
        file.write(b'{"model": "m/z"\n\xff\xfe\n{"model":1}\n')
    listed.add(SECOND)
    assert listed.read() == [FIRST, SECOND]


def test_a_list_that_cannot_be_read_or_written_stops_nothing(path: Path) -> None:
    """The ledger of the run holds the row as well."""
    path.mkdir(parents=True)
    QuarantineFile(path).add(FIRST)
    assert QuarantineFile(path).read() == []


def test_an_upstreams_endpoints_are_its_own(path: Path) -> None:
    """A test against a simulator must take no real endpoint out of use, nor its clearing bring one back."""
    listed, simulated = QuarantineFile(path), replace(FIRST, upstream="http://127.0.0.1:9")
    listed.add(FIRST)
    listed.add(simulated)
    assert listed.read() == [FIRST, simulated]
    assert listed.clear("m/x", "t", "http://127.0.0.1:9")
    assert listed.read() == [FIRST]
    assert not listed.clear("m/x", "t", "http://127.0.0.1:9")
    assert listed.clear("m/x", "t")


def test_a_line_that_names_no_upstream_is_openrouters(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"model":"m/x","tag":"t","reason":"billed 2, reserved 1","at_s":1.0}\n')
    assert QuarantineFile(path).read() == [FIRST]
    assert FIRST.upstream == "https://openrouter.ai"


def test_what_a_proxy_lists_while_a_person_clears_is_not_lost(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clearing replaces the file, to which the other would append just before."""
    listed, read = QuarantineFile(path), QuarantineFile.read
    listed.add(FIRST)
    adding = threading.Thread(target=lambda: QuarantineFile(path).add(SECOND))

    def then_another_adds(file: QuarantineFile) -> list[QuarantinedEndpoint]:
        rows = read(file)
        adding.start()
        adding.join(0.5)  # it waits for the clearing, and else is done long before
        return rows

    monkeypatch.setattr(quarantine_file, "ADD_WAIT_S", 30.0)
    monkeypatch.setattr(QuarantineFile, "read", then_another_adds)
    assert listed.clear(FIRST.model, FIRST.tag)
    monkeypatch.undo()
    adding.join(30)
    assert listed.read() == [SECOND]


def test_a_list_that_another_keeps_locked_stops_no_proxy_and_is_not_cleared(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    QuarantineFile(path).add(FIRST)
    monkeypatch.setattr(quarantine_file, "CLEAR_WAIT_S", 0.05)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        QuarantineFile(path).add(SECOND)
        with pytest.raises(TimeoutError, match="locked"):
            QuarantineFile(path).clear("m/x", "t")
    finally:
        os.close(descriptor)
    assert QuarantineFile(path).read() == [FIRST]
    assert QuarantineFile(path).clear("m/x", "t")
