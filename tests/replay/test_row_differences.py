"""What differs between two rows as the same triggers recorded them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from actionbus.core.history.shapes import Shape
from actionbus.replay.clocks import Clocks
from actionbus.replay.nets import Held, Net
from actionbus.replay.row_differences import row_differences

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SHAPE = Shape(1, "notes", ("id", "text"), ("INTEGER", "TEXT"), ("id",), (), False, NOW, 0)


@pytest.mark.parametrize(("recorded", "now"), [(None, "None"), ("None", None), (None, ""), ("", None)])
def test_null_is_no_text(recorded: Any, now: Any) -> None:
    one, other = (Net("notes", 1, None, Held(SHAPE, (1, value))) for value in (recorded, now))
    assert list(row_differences([one], [other], {"notes"}, Clocks(NOW, NOW, NOW))) == [("notes[1].text", recorded, now)]
