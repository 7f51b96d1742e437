"""The collector of garbage stays off while a batch is at work, whoever else ends one; and never for long."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from actionbus.projections import collecting
from actionbus.projections.collecting import no_garbage_collection


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    """The collector is on before and after."""
    assert gc.isenabled()
    yield
    gc.enable()


def test_it_stays_off_until_the_last_batch_ends() -> None:
    first, second = no_garbage_collection(), no_garbage_collection()
    with first:
        second.__enter__()
        assert not gc.isenabled()
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()


def test_it_stays_off_for_whoever_turned_it_off() -> None:
    gc.disable()
    with no_garbage_collection():
        pass
    assert not gc.isenabled()


def test_where_there_is_always_a_batch_at_work_garbage_is_collected_once_in_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Cycle:
        """Refers to itself."""

        me: object

    monkeypatch.setattr(collecting, "_LONGEST_S", -1.0)
    with no_garbage_collection():
        cycle = Cycle()
        cycle.me, gone = cycle, weakref.ref(cycle)
        del cycle
        with no_garbage_collection():
            assert gone() is not None
        assert gone() is None
