"""Take prices over from a channel's list, as before."""

from __future__ import annotations

from tests.adapters.inspector.inn.actions.import_prices import ImportPrices as Before


class ImportPrices(Before):
    """Take prices over from a channel's list."""
