"""The tables of the ledger, version by version, and their rows as values."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import astuple, replace
from pathlib import Path

import pytest

from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.ledger.commands import LoseKeyBase, NoteKeyBase, Post, Reserve
from preflight_proxy.core.ledger.rows import (
    Account,
    Entry,
    EntryKind,
    KeyBase,
    QuarantinedEndpoint,
    Reservation,
    ReservationState,
)
from preflight_proxy.core.refusals.outcomes import NONE_YET
from preflight_proxy.ledger import schema
from tests.support.ledger_on_disk import open_account, open_store

ACCOUNT = Account(
    "a", "run", 100, 40, 30, 20, 5, 1, "why", True, ("m/x",), "t", "k", True, -7, "b.txt", "detailed", 3, 2
)
HELD = Reservation(
    "r",
    "a",
    ReservationState.PENDING,
    30,
    0,
    "chat",
    "m/x",
    ("t", "u"),
    16,
    True,
    1.5,
    "gen-1",
    "t",
    2.5,
    False,
    "d",
    None,
)
BASE = KeyBase(1, "https://openrouter.ai/api/v1", "k", 7, 3, 1.5)
ENTRY = Entry(1, "r", "a", EntryKind.POSTED, 40, 3.5, "{}")


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """New tables with one row each."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        schema.migrate(made)
        made.execute(schema.PUT_ACCOUNT, schema.account_row(ACCOUNT))
        made.execute(schema.ADD_RESERVATION, schema.reservation_row(HELD))
        made.execute(schema.ADD_ENTRY, schema.entry_row(ENTRY))
        made.execute(schema.PUT_KEY_BASE, schema.key_base_row(BASE))
        yield made


def test_values_come_back_as_they_went(connection: sqlite3.Connection) -> None:
    """Every field, every type."""
    assert schema.read_accounts(connection) == [ACCOUNT]
    assert schema.read_reservations(connection, "id = ?", "r") == [HELD]
    row = connection.execute(f"SELECT {schema.ENTRY_COLUMNS} FROM entries").fetchone()
    assert schema.entry_of(row) == ENTRY


def test_what_became_of_calls_is_read_with_its_account_and_may_be_missing(connection: sqlite3.Connection) -> None:
    """A ledger of before knows nothing of it."""
    connection.execute(schema.PUT_ACCOUNT, schema.account_row(replace(ACCOUNT, id="b", token_hash="u")))
    known = replace(ACCOUNT, outcomes=NONE_YET.with_served())
    connection.execute(schema.PUT_META, schema.outcomes_row(known))
    assert [account.outcomes for account in schema.read_accounts(connection)] == [known.outcomes, NONE_YET]


def test_a_base_comes_back_as_it_went_and_can_be_lost(connection: sqlite3.Connection) -> None:
    assert schema.read_key_bases(connection) == [BASE]
    connection.execute(schema.PUT_KEY_BASE, schema.key_base_row(replace(BASE, usage_pusd=8, lost="why")))
    assert schema.read_key_bases(connection) == [replace(BASE, lost="why")]


@pytest.mark.parametrize("column", ["usage_pusd", "byok_pusd", "key_hash", "upstream"])
def test_a_base_never_changes(connection: sqlite3.Connection, column: str) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="read once"):
        connection.execute(f"UPDATE key_bases SET {column} = 9")


def test_what_each_bases_calls_posted_is_found_again_after_a_restart(tmp_path: Path) -> None:
    """Of all accounts, and of none of the calls that are in no base."""
    store = open_store(tmp_path)
    open_account(store)
    open_account(store, "b")
    for key_hash in ("k", "l"):
        store.commit(NoteKeyBase("u", key_hash, 5, 0))
    for number, (account, key_base) in enumerate([("a", 1), ("b", 1), ("a", None), ("b", 2)]):
        store.commit(Reserve(f"r{number}", account, 90, "chat", "m/x", ("t",), 9, key_base=key_base))
        store.commit(Post(f"r{number}", 10 + number))
    store.commit(Reserve("held", "a", 90, "chat", "m/x", ("t",), 9, key_base=2))
    store.commit(LoseKeyBase(1, "why"))
    store.commit(LoseKeyBase(1, "another"))
    state = store.state
    assert state.key_posted_pusd == {1: 21, 2: 13}
    assert [base.lost for base in state.key_bases.values()] == ["why", None]
    store.close()
    again = open_store(tmp_path)
    assert again.state == state
    assert again.state.reservations["held"].key_base == 2
    again.close()


__all__ = ["connection"]


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("accounts", schema.ACCOUNT_COLUMNS),
        ("reservations", schema.RESERVATION_COLUMNS),
        ("entries", schema.ENTRY_COLUMNS),
        ("quarantine", schema.QUARANTINE_COLUMNS),
        ("meta", "name, value"),
    ],
)
def test_the_columns_of_the_newest_version(connection: sqlite3.Connection, table: str, columns: str) -> None:
    """A migration that changes one of them is a new version."""
    names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    assert names == columns.split(", ")
    assert schema.schema_version(connection) == len(schema.MIGRATIONS)


def test_endpoints_that_were_quarantined_before_upstreams_were_told_apart_are_openrouters() -> None:
    """Version 1 knew none; the same endpoint of another upstream has a row of its own."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        for statement in schema.MIGRATIONS[0]:
            made.execute(statement)
        made.execute(schema.PUT_META, ("schema_version", "1"))
        made.execute("INSERT INTO quarantine VALUES ('m/x', 't', 'dear', 1.5)")
        schema.migrate(made)
        before = QuarantinedEndpoint("m/x", "t", "dear", 1.5, "https://openrouter.ai")
        assert schema.read_quarantine(made) == [before]
        other = replace(before, upstream="http://127.0.0.1:9", reason="simulated")
        made.execute(schema.PUT_QUARANTINE, astuple(other))
        made.execute(schema.PUT_QUARANTINE, astuple(replace(before, reason="again")))
        assert sorted(each.reason for each in schema.read_quarantine(made)) == ["again", "simulated"]


def test_migrating_twice_changes_nothing(connection: sqlite3.Connection) -> None:
    """As at every start."""
    schema.migrate(connection)
    assert schema.read_accounts(connection) == [ACCOUNT]


def test_a_ledger_of_a_newer_program_is_left_alone(connection: sqlite3.Connection) -> None:
    """Its rules are unknown here."""
    connection.execute(schema.PUT_META, ("schema_version", str(len(schema.MIGRATIONS) + 1)))
    with pytest.raises(LedgerError, match="use a newer one"):
        schema.migrate(connection)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET cost_pusd = 0",
        "DELETE FROM entries",
        "UPDATE accounts SET pending_pusd = -1",
        "UPDATE accounts SET posted_pusd = -1",
        "UPDATE reservations SET state = 'gone'",
        "INSERT INTO reservations SELECT * FROM reservations",
        "UPDATE accounts SET token_hash = NULL",
    ],
)
def test_the_tables_refuse_what_the_ledger_never_does(connection: sqlite3.Connection, statement: str) -> None:
    """Entries are append-only, amounts not negative."""
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)


def test_no_two_accounts_have_one_token(connection: sqlite3.Connection) -> None:
    """Or a call would be posted on either."""
    with pytest.raises(sqlite3.IntegrityError, match="token_hash"):
        connection.execute(schema.PUT_ACCOUNT, schema.account_row(replace(ACCOUNT, id="b")))


@pytest.mark.parametrize(("assumed", "then", "allowed"), [(0, 0, False), (1, 0, True), (1, 1, False)])
def test_an_ended_reservation_changes_only_from_assumed_to_known(
    connection: sqlite3.Connection, assumed: int, then: int, allowed: bool
) -> None:
    """M15."""
    connection.execute("UPDATE reservations SET state = 'posted', posted_pusd = 5, assumed = ?", (assumed,))
    statement = "UPDATE reservations SET posted_pusd = 6, assumed = ?"
    if allowed:
        connection.execute(statement, (then,))
    with pytest.raises(sqlite3.IntegrityError, match="ends once"):
        connection.execute(statement, (then,))


def test_a_generation_belongs_to_one_call(connection: sqlite3.Connection) -> None:
    """Whether it comes with a reservation or later; what a call has already may be written again."""
    connection.execute(schema.ADD_RESERVATION, schema.reservation_row(replace(HELD, id="s", generation_id=None)))
    with pytest.raises(sqlite3.IntegrityError, match="one call"):
        connection.execute(schema.ADD_RESERVATION, schema.reservation_row(replace(HELD, id="t")))
    with pytest.raises(sqlite3.IntegrityError, match="one call"):
        connection.execute(schema.SET_RESERVATION, schema.reservation_update(replace(HELD, id="s")))
    connection.execute(schema.SET_RESERVATION, schema.reservation_update(HELD))


def test_an_earlier_ledger_that_holds_a_generation_twice_is_still_used() -> None:
    """Both calls can end; neither gets another id that is taken."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as old:
        for statement in schema.MIGRATIONS[0]:
            old.execute(statement)
        old.execute(schema.PUT_META, ("schema_version", "1"))
        old.execute(schema.PUT_ACCOUNT, schema.account_row(ACCOUNT))
        for each in ("r", "s"):
            values = schema.reservation_row(replace(HELD, id=each))
            marks = ", ".join("?" * 16)
            old.execute(f"INSERT INTO reservations VALUES ({marks})", values[:16])
        schema.migrate(old)
        for each in ("r", "s"):
            ended = replace(HELD, id=each, state=ReservationState.POSTED, posted_pusd=5)
            old.execute(schema.SET_RESERVATION, schema.reservation_update(ended))
        assert schema.schema_version(old) == len(schema.MIGRATIONS)
