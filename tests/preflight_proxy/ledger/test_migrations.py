"""The tables themselves, version by version, keep what the ledger promises."""

import sqlite3
from contextlib import closing
from dataclasses import astuple, replace

import pytest

from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.ledger.rows import QuarantinedEndpoint, ReservationState
from preflight_proxy.ledger import migrations, schema
from tests.preflight_proxy.ledger.test_schema import ACCOUNT, HELD, connection

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
    assert migrations.schema_version(connection) == len(migrations.MIGRATIONS)


def test_endpoints_that_were_quarantined_before_upstreams_were_told_apart_are_openrouters() -> None:
    """Version 1 knew none; the same endpoint of another upstream has a row of its own."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        for statement in migrations.MIGRATIONS[0]:
            made.execute(statement)
        made.execute(schema.PUT_META, ("schema_version", "1"))
        made.execute("INSERT INTO quarantine VALUES ('m/x', 't', 'dear', 1.5)")
        migrations.migrate(made)
        before = QuarantinedEndpoint("m/x", "t", "dear", 1.5, "https://openrouter.ai")
        assert schema.read_quarantine(made) == [before]
        other = replace(before, upstream="http://127.0.0.1:9", reason="simulated")
        made.execute(schema.PUT_QUARANTINE, astuple(other))
        made.execute(schema.PUT_QUARANTINE, astuple(replace(before, reason="again")))
        assert sorted(each.reason for each in schema.read_quarantine(made)) == ["again", "simulated"]


def test_migrating_twice_changes_nothing(connection: sqlite3.Connection) -> None:
    """As at every start."""
    migrations.migrate(connection)
    assert schema.read_accounts(connection) == [ACCOUNT]


def test_a_ledger_of_a_newer_program_is_left_alone(connection: sqlite3.Connection) -> None:
    """Its rules are unknown here."""
    connection.execute(schema.PUT_META, ("schema_version", str(len(migrations.MIGRATIONS) + 1)))
    with pytest.raises(LedgerError, match="use a newer one"):
        migrations.migrate(connection)


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
        for statement in migrations.MIGRATIONS[0]:
            old.execute(statement)
        old.execute(schema.PUT_META, ("schema_version", "1"))
        old.execute(schema.PUT_ACCOUNT, schema.account_row(ACCOUNT))
        for each in ("r", "s"):
            values = schema.reservation_row(replace(HELD, id=each))
            marks = ", ".join("?" * 16)
            old.execute(f"INSERT INTO reservations VALUES ({marks})", values[:16])
        migrations.migrate(old)
        for each in ("r", "s"):
            ended = replace(HELD, id=each, state=ReservationState.POSTED, posted_pusd=5)
            old.execute(schema.SET_RESERVATION, schema.reservation_update(ended))
        assert migrations.schema_version(old) == len(migrations.MIGRATIONS)
