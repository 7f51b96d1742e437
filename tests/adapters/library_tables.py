"""Databases of the reference application, for tests of it and of what shows it. The framework's own have the shop."""

from __future__ import annotations

from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.adapters.library.app import library
from actionbus.adapters.library.models import Base
from tests.copies import copied


def prepared_library(url: URL) -> None:
    """Create the reference application's tables and its journal in an empty database; all its rows are recorded."""
    if not copied(url, "library", create_library):
        create_library(url)


def create_library(url: URL) -> None:
    """Journal and tables of the reference application, with what records its rows."""
    with Bus(library, url) as bus:
        bus.journal.create()
        Base.metadata.create_all(bus.engine)
