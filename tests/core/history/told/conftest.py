"""A row history that a test writes by hand, on each database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy.engine import URL

from tests.core.history.told.byhand import Book


@pytest.fixture
def book(url: URL) -> Iterator[Book]:
    """On each database in turn."""
    book = Book(url)
    yield book
    book.close()


@pytest.fixture
def postgres_book(postgres_url: URL) -> Iterator[Book]:
    """On PostgreSQL, where transactions overlap."""
    book = Book(postgres_url)
    yield book
    book.close()


@pytest.fixture
def sqlite_book(sqlite_url: URL) -> Iterator[Book]:
    """On SQLite, where ranges tell whose an image is."""
    book = Book(sqlite_url)
    yield book
    book.close()
