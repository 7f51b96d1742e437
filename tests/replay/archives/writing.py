"""Eight writers that go on while history is archived, attached or pruned, and what each was told. Used by `test_killed`."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self
from uuid import UUID

from actionbus import Bus, Outcome
from tests.waiting import eventually

WRITERS = 8


class Writing:
    """Threads that write, each its own accounts, as often as they are let; what was acknowledged."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._turns = threading.Semaphore(0)
        self._stopping = False
        self.acknowledged: list[int] = []
        """Positions of outcomes that were returned."""
        self.errors: list[Exception] = []
        self._tickets: dict[int, UUID] = {}
        self._threads = [threading.Thread(target=self._write, args=[number]) for number in range(WRITERS)]

    def let(self) -> None:
        """One turn for each, at the most: what is archived is not to grow faster than it goes."""
        self._turns.release(WRITERS)

    def go_on(self, count: int) -> None:
        """Wait until so many more outcomes were returned."""
        enough = len(self.acknowledged) + count

        def is_enough() -> bool:
            self.let()
            return len(self.acknowledged) >= enough

        eventually(is_enough, "the writers go on")

    def _write(self, number: int) -> None:
        turn = 0
        while self._turns.acquire() and not self._stopping:
            try:
                self._act(number, turn)
            except Exception as error:
                self.errors.append(error)
            turn += 1

    def _act(self, number: int, turn: int) -> None:
        """One of six steps; what it opens it closes, so that there are never many rows."""
        cycle, step = divmod(turn, 6)
        one, other, runner = 100 + number * 2, 101 + number * 2, self._bus.runner(f"w{number}")
        if step == 0:
            if cycle % 4 == 0:
                self._told(runner.execute("close_account", {"id": other}))
                self._told(runner.execute("open_account", {"id": other, "name": f"w{other}"}))
            self._tickets[number] = runner.execute_async("deposit", {"id": other}).action_id
        elif step == 1:
            self._told(runner.execute("open_account", {"id": one, "name": f"w{one}"}))
        elif step == 2:
            self._told(runner.execute("deposit", {"id": one, "amount": 1}, idempotency_key=f"{number}-{turn}"))
        elif step == 3:
            self._told(runner.execute("transfer", {"source": one, "target": other, "amount": 1}))
        elif step == 4:
            self._told(runner.execute("close_account", {"id": one, "raw": True}))
        elif number in self._tickets:  # asked for before, and by now perhaps before a cut
            self._told(self._bus.run_queued(self._tickets.pop(number)))

    def _told(self, outcome: Outcome | None) -> None:
        assert outcome is not None
        self.acknowledged.append(outcome.position)

    def __enter__(self) -> Self:
        for each in self._threads:
            each.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping = True
        self.let()
        for each in self._threads:
            each.join()
