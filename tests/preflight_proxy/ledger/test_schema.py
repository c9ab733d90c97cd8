"""The tables of the ledger, version by version."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import astuple, replace

from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.ledger.commands import Assume, Post, SetGeneration
from preflight_proxy.core.ledger.rows import KeyBase, QuarantinedEndpoint
from preflight_proxy.core.ledger.state import KeyPosted
from preflight_proxy.ledger import schema, tables
from preflight_proxy.ledger.store import GenerationTakenError
from tests.preflight_proxy.ledger.test_tables import ACCOUNT, connection
from tests.support.ledger_on_disk import open_store, reserve

__all__ = ["connection"]

VERSION_1 = Path(__file__).with_name("version_1.sql")
"""The tables of version 1."""
VERSION_4 = Path(__file__).with_name("version_4.sql")
"""What the program wrote that knew version 4: calls of every kind, ended, pending and unknown."""


def write_version_4(path: Path) -> None:
    """Make a ledger of version 4."""
    with closing(sqlite3.connect(path)) as made:
        made.executescript(VERSION_4.read_text())


@pytest.fixture
def first() -> Iterator[sqlite3.Connection]:
    """A ledger of version 1, with two pending reservations that have one generation id."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        made.executescript(VERSION_1.read_text())
        made.execute(schema.PUT_META, ("schema_version", "1"))
        made.execute(
            "INSERT INTO accounts VALUES ('a','run',100,0,60,0,0,0,NULL,0,NULL,'t','k',0,NULL,NULL,'simple',0,0)"
        )
        for name in ("r", "s"):
            row = (name, "a", "pending", 30, 0, "chat", "m/x", '["t"]', 16, 1, 1.5, "gen-1", "t", 2.5, 0, "d")
            made.execute(f"INSERT INTO reservations VALUES ({', '.join('?' * len(row))})", row)
        made.execute("INSERT INTO quarantine VALUES ('m/x', 't', 'dear', 1.5)")
        yield made


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("accounts", tables.ACCOUNT_COLUMNS),
        ("entries", tables.ENTRY_COLUMNS),
        ("quarantine", tables.QUARANTINE_COLUMNS),
        ("key_bases", tables.KEY_BASE_COLUMNS),
        ("meta", "name, value"),
        ("projection", "account, document"),
    ],
)
def test_the_columns_of_the_newest_version(connection: sqlite3.Connection, table: str, columns: str) -> None:
    """A migration that changes one of them is a new version."""
    names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    assert names == columns.split(", ")
    assert schema.schema_version(connection) == schema.VERSION


def test_a_ledger_of_version_4_goes_on_with_every_figure(tmp_path: Path) -> None:
    """Balances, counts, tokens, what is pending and since when it is unknown, ids, the sums of a key base; and its entries."""
    write_version_4(tmp_path / "ledger.sqlite3")
    for _ in range(2):
        store = open_store(tmp_path)
        a, b = store.state.accounts["a"], store.state.accounts["b"]
        assert (a.posted_pusd, a.pending_pusd, a.assumed_pusd, a.limit_pusd, a.calls) == (130, 42, 70, 900, 2)
        assert (b.posted_pusd, b.pending_pusd, b.assumed_pusd, b.recovered_pusd, b.overrun_pusd) == (65, 81, 30, 3, 2)
        assert (a.refused, a.outcomes.served, [cause.text for cause in a.outcomes.causes]) == (1, 1, ["no"])
        assert (a.prompt_tokens, a.cached_tokens, a.cache_write_tokens, a.completion_tokens) == (100, 40, 7, 9)
        assert (a.cache_hit_requests, a.actions_count, a.last_entry_s) == (1, 1, 1_760_000_000.0)
        assert (b.prompt_tokens, b.frozen, a.models, a.key_usage_base_pusd) == (8, "by hand", ("m/x",), 5)
        assert [(r.id, r.generation_id, r.tag, r.unknown_since_s) for r in store.pending()] == [
            ("plain", None, None, None),
            ("named", "gen-3", "t", None),
            ("unknown", "gen-4", "u", 2e9),
        ]
        assert store.state.key_posted == {1: KeyPosted(50, 30)}
        assert list(store.state.quarantined) == [("m/z", "u")]
        assert [entry.entry_id for entry in store.entries()] == list(range(1, 8))
        assert store.generation("a", "gen-1") is not None
        store.close()
    store = open_store(tmp_path)
    store.commit(Assume("unknown", 12))
    with pytest.raises(GenerationTakenError):
        store.commit(SetGeneration("plain", "gen-2"))
    store.commit(reserve("new", 10))
    store.commit(Post("new", 5))
    assert (store.state.accounts["a"].posted_pusd, store.state.next_entry_id) == (147, 10)
    store.close()


def test_entry_ids_that_were_lost_before_are_not_used_after_a_migration(tmp_path: Path) -> None:
    write_version_4(tmp_path / "ledger.sqlite3")
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as earlier:
        earlier.execute(schema.PUT_META, ("entry_id_floor", "20"))
        earlier.commit()
    store = open_store(tmp_path)
    assert store.state.next_entry_id == 21
    store.close()


def test_outcomes_that_cannot_be_read_are_none_after_a_migration(tmp_path: Path) -> None:
    """They decide nothing about money."""
    write_version_4(tmp_path / "ledger.sqlite3")
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as earlier:
        earlier.execute(schema.PUT_META, ("outcomes a", "torn"))
        earlier.commit()
    store = open_store(tmp_path)
    assert store.state.accounts["a"].outcomes.served == 0
    store.close()


def test_endpoints_that_were_quarantined_before_upstreams_were_recorded_are_openrouters(
    first: sqlite3.Connection,
) -> None:
    """Version 1 had none; the same endpoint of another upstream has a row of its own."""
    schema.migrate(first)
    before = QuarantinedEndpoint("m/x", "t", "dear", 1.5, "https://openrouter.ai")
    assert tables.read_quarantine(first) == [before]
    other = replace(before, upstream="http://127.0.0.1:9", reason="simulated")
    first.execute(tables.PUT_QUARANTINE, astuple(other))
    first.execute(tables.PUT_QUARANTINE, astuple(replace(before, reason="again")))
    assert sorted(each.reason for each in tables.read_quarantine(first)) == ["again", "simulated"]


def test_an_earlier_ledger_that_has_a_generation_twice_is_still_used(first: sqlite3.Connection) -> None:
    """The older call keeps the id; the other one is decided as one without an id."""
    schema.migrate(first)
    state = tables.read_state(first)
    assert [(r.id, r.generation_id, r.unknown_since_s) for r in state.pending("a")] == [
        ("r", "gen-1", 2.5),
        ("s", None, 2.5),
    ]
    assert schema.schema_version(first) == schema.VERSION


def test_an_earlier_ledger_gets_the_tables_of_a_new_one(first: sqlite3.Connection, tmp_path: Path) -> None:
    """The same columns, rules and triggers; `entries` alone stays as it was made, with triggers and references of its time."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as new:
        schema.migrate(new)
        write_version_4(tmp_path / "ledger.sqlite3")
        with closing(sqlite3.connect(tmp_path / "ledger.sqlite3", isolation_level=None)) as fourth:
            for earlier in (first, fourth):
                schema.migrate(earlier)
                assert definitions(earlier) == definitions(new)
                columns = [made.execute("PRAGMA table_info(entries)").fetchall() for made in (earlier, new)]
                assert columns[0] == columns[1]


def definitions(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the SQL of all tables, indexes and triggers but those of `entries`, without layout."""
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE tbl_name <> 'entries' AND sql IS NOT NULL")
    return {name: re.sub(r"\s*([(),])\s*", r"\1", " ".join(sql.replace('"', "").split())) for name, sql in rows}


def test_migrating_twice_changes_nothing(connection: sqlite3.Connection) -> None:
    """As at every start."""
    before = list(connection.iterdump())
    schema.migrate(connection)
    assert list(connection.iterdump()) == before


def test_a_ledger_of_a_newer_program_is_left_alone(connection: sqlite3.Connection) -> None:
    """Its rules are unknown here."""
    connection.execute(schema.PUT_META, ("schema_version", str(schema.VERSION + 1)))
    with pytest.raises(LedgerError, match="use a newer one"):
        schema.migrate(connection)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET cost_pusd = 0",
        "DELETE FROM entries",
        "UPDATE reservations SET reserved_pusd = 0",
        "DELETE FROM reservations",
        "UPDATE generations SET generation_id = 'gen-2'",
        "DELETE FROM generations",
        "UPDATE unknowns SET since_s = 0",
        "DELETE FROM unknowns",
        "UPDATE accounts SET limit_pusd = -1",
        "INSERT INTO reservations SELECT * FROM reservations",
        "INSERT INTO reservations SELECT 9, 'q', '', -1, '', '', '', 1, 0, 0, '', NULL, 0, '', 0 FROM reservations",
        "INSERT INTO reservations SELECT 9, 'q', '', 1, '', '', '', 1, 0, 0, '', NULL, -1, '', 0 FROM reservations",
        "INSERT INTO generations VALUES (2, 'gen-1', NULL)",
        "INSERT INTO generations VALUES (1, 'gen-2', NULL)",
        "UPDATE accounts SET token_hash = NULL",
    ],
)
def test_the_tables_refuse_what_the_ledger_never_does(connection: sqlite3.Connection, statement: str) -> None:
    """What calls add is append-only, a generation is one call's, amounts are not negative."""
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)


def test_no_two_accounts_have_one_token(connection: sqlite3.Connection) -> None:
    """Or a call would be posted on either."""
    row = list(tables.account_row(ACCOUNT))
    with pytest.raises(sqlite3.IntegrityError, match="token_hash"):
        connection.execute(tables.PUT_ACCOUNT, ["b", *row[1:]])


@pytest.mark.parametrize("column", ["usage_pusd", "byok_pusd", "key_hash", "upstream"])
def test_a_base_never_changes(connection: sqlite3.Connection, column: str) -> None:
    connection.execute(tables.PUT_KEY_BASE, astuple(KeyBase(1, "u", "k", 7, 3, 1.5)))
    with pytest.raises(sqlite3.IntegrityError, match="read once"):
        connection.execute(f"UPDATE key_bases SET {column} = 9")
