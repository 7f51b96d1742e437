"""How values are written into SQL: the server must read exactly what was given, whatever it is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actionbus.core.storage.postgresql_literals import filled, literal, literals
from tests.servers import Server

TRICKY = "'\\\"%?{}$:;-\n\r\tEe\u2019é漢\U0001f600"


@pytest.fixture(scope="module")
def cursor(server: Server) -> Iterator[Any]:
    """A cursor of the driver's, outside of any transaction."""
    connection = psycopg2.connect(server.url.set(drivername="postgresql").render_as_string(hide_password=False))
    connection.autocommit = True
    yield connection.cursor()
    connection.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    values=st.lists(
        st.none()
        | st.integers(-(2**63), 2**63 - 1)
        | st.text(st.sampled_from(TRICKY))
        | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
        min_size=1,
    ),
    conforming=st.sampled_from(["on", "off"]),
)
def test_the_server_reads_every_text_as_it_was_given(cursor: Any, values: list[Any], conforming: str) -> None:
    cursor.execute(f"SET standard_conforming_strings = {conforming}; SET escape_string_warning = on")
    cursor.execute(f"SELECT {literals(values, cursor)}")
    assert list(cursor.fetchone()) == values


@pytest.mark.parametrize("encoding", ["UTF8", "LATIN1", "SJIS", "BIG5", "GBK", "EUC_JP"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(text=st.text(st.characters(max_codepoint=127, exclude_characters="\0")))
def test_an_ascii_text_is_written_as_the_driver_would(cursor: Any, encoding: str, text: str) -> None:
    cursor.connection.set_client_encoding(encoding)
    written = literal(text, cursor).encode()
    told = cursor.mogrify("%s", (text,))
    cursor.connection.set_client_encoding("UTF8")
    assert written == told


@pytest.mark.parametrize("value", [True, 1.5, Decimal("1.50"), b"\0'\\", [1, 2], ["a'", "\\"]])
def test_what_is_rare_is_written_by_the_driver(cursor: Any, value: Any) -> None:
    cursor.execute(f"SELECT {literal(value, cursor)}")
    found = cursor.fetchone()[0]
    assert (bytes(found) if isinstance(value, bytes) else found) == value


def test_ids_and_times_are_texts_that_the_column_casts(cursor: Any) -> None:
    action_id, moment = UUID(int=7), datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
    cursor.execute(
        f"SELECT {literal(action_id, cursor)}::uuid::text, {literal(moment, cursor)}::timestamptz = %s", [moment]
    )
    assert cursor.fetchone() == (str(action_id), True)


def test_a_text_that_only_looks_like_one_is_written_as_it_is(cursor: Any) -> None:
    class Escaping(str):
        def replace(self, *_: Any) -> str:  # type: ignore[override]
            return "something else"

        def __str__(self) -> str:
            return "something else"

    cursor.execute(f"SELECT {literal(Escaping(TRICKY), cursor)}")
    assert cursor.fetchone()[0] == TRICKY


def test_nul_is_refused_and_cuts_no_statement_short(cursor: Any) -> None:
    with pytest.raises(ValueError, match="NUL"):
        literal("a\0b", cursor)


def test_values_that_hold_a_mark_are_no_places_for_others(cursor: Any) -> None:
    cursor.execute(filled("SELECT ?, ?, '{schema}'", ("a?b", "{schema}%s"), cursor, schema="?%s?"))
    assert cursor.fetchone() == ("a?b", "{schema}%s", "?%s?")
