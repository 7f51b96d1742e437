"""What `actionbus journal recover` tells of actions that were cut off."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy.engine import URL

from actionbus import Bus
from tests.helpers import Run, abandon, documents
from tests.shop.app import make_application


def test_it_says_how_many_were_too_young(run: Run, url: URL) -> None:
    with Bus(make_application(), url) as bus:
        young = [str(abandon(bus, recorded_at=datetime.now(UTC))) for _ in range(2)]
    told = run("journal", "recover", "--older-than", "15m").stdout
    assert "0 interrupted" in told
    assert "2 unfinished, but too young" in told
    assert documents(run("journal", "recover", "--older-than", "15m", "--json"))[0]["too_young"] == young
    settled = run("journal", "recover", "--older-than", "0s").stdout
    assert "2 interrupted" in settled
    assert "too young" not in settled
