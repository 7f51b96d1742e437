"""The trade's history, lived by chance and verified; for whoever looks at what came out."""

from __future__ import annotations

import random
from typing import Any

from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.replay import Replayer, Step
from tests.replay.trade import make_application

ALL = ("succeeded", "rejected", "denied", "failed")


def arguments(chance: random.Random, idiom: str) -> dict[str, Any]:
    """Some for an idiom."""
    return {
        "idiom": idiom,
        "n": chance.randrange(60),
        "word": chance.choice("abcdefgh"),
        "amount": chance.randint(1, 9),
    }


def verified(bus: Bus, sandbox: URL | str) -> list[Step]:
    """All of it."""
    with Replayer(bus.journal, make_application(), sandbox) as replayer:
        return list(replayer.verify(statuses=ALL))


def told(steps: list[Step], *verdicts: str) -> list[Any]:
    """Those of some verdicts, for people."""
    return [
        (
            s.position,
            s.record.arguments.get("idiom"),
            s.record.status,
            s.verdict,
            s.why,
            [str(d) for d in s.differences],
        )
        for s in steps
        if s.verdict in verdicts
    ]
