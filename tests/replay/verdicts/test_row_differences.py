"""What differs between two rows as the same triggers recorded them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from actionbus.core.history.shapes import Shape
from actionbus.core.values import payload
from actionbus.replay.past.nets import HeldRow, Net
from actionbus.replay.sandbox.clocks import Clocks
from actionbus.replay.verdicts.divergence import Comparing
from actionbus.replay.verdicts.row_differences import row_differences

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SHAPE = Shape(1, "notes", ("id", "text"), ("INTEGER", "TEXT"), ("id",), (), False, NOW, 0)


@pytest.mark.parametrize(("recorded", "now"), [(None, "None"), ("None", None), (None, ""), ("", None)])
def test_null_is_no_text(recorded: Any, now: Any) -> None:
    how = Comparing({"notes"}, lambda _: None, NOW)
    one, other = (Net("notes", 1, None, HeldRow(SHAPE, (1, value))) for value in (recorded, now))
    assert list(row_differences([one], [other], how, Clocks(NOW, NOW, NOW))) == [("notes[1].text", recorded, now)]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("interval", "00:00:01"),
        ("timestamp with time zone", "2026-01-01 00:00:00+00"),
        ("numeric", "1.5"),
        ("date", "2026-01-01"),
        ("bytea", "\\\\x00"),
        ("uuid", str(UUID(int=1))),
        ("interval[]", "{00:00:01}"),
        ("integer", "5"),
        ("text", "a"),
    ],
)
def test_what_differs_can_be_told_as_json(kind: str, text: str) -> None:
    """Whatever type it has on PostgreSQL, where rows are recorded as texts."""
    shape = SHAPE._replace(types=("integer", kind))
    one, other = (Net("notes", 1, None, HeldRow(shape, row)) for row in ("(1,)", f"(1,{text})"))
    how = Comparing({"notes"}, lambda _: None, NOW)
    ((_, recorded, now),) = row_differences([one], [other], how, Clocks(NOW, NOW, NOW))
    assert recorded is None
    assert payload.loads(payload.dumps(now)) == now
