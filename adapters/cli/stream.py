"""`actionbus journal stream`: settled records as JSON lines, in order, for whatever reads standard output."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import click
from sqlalchemy.exc import SQLAlchemyError

from actionbus.adapters.cli.common import Environment, json_line, pass_environment
from actionbus.adapters.cli.mistyped import refuse_unknown_action
from actionbus.adapters.cli.printing import USAGE, fail, first_line, say
from actionbus.adapters.cli.signals import until_asked
from actionbus.core import Bus, JournalUnavailable, Record
from actionbus.core.values.record import Kind
from actionbus.projections.claim import Claim
from actionbus.projections.delivery import Delivery, DeliveryFailed, place_of, row_name
from actionbus.projections.errors import IndexBusy
from actionbus.projections.fed import is_name
from actionbus.projections.ledger import Ledger
from actionbus.projections.shared_reading import SharedReading, WantedRecords
from actionbus.projections.waking import Waking

_BATCH: Final = 500
_STANDING_BY_S: Final = 0.5
"""Seconds between two looks whether whoever has the name is gone."""
_AWAY_S: Final = 1.0
"""Seconds until a database that is away is asked again."""
_SHOWN: Final[frozenset[Kind]] = frozenset({"outcome", "bypass"})


@click.command()
@click.option("--name", metavar="NAME", help="Keep the position under this name, to go on from.")
@click.option(
    "--after", type=click.IntRange(0), metavar="POSITION", help="Begin beyond this one; where there is no NAME yet."
)
@click.option("--action", "actions", multiple=True, metavar="ACTION", help="Only this action; may be given again.")
@click.option("--submitted", is_flag=True, help="Submitted records too, not outcomes and bypasses alone.")
@click.option("-f", "--follow", is_flag=True, help="Go on as records come, until Ctrl-C or SIGTERM.")
@pass_environment
def stream(
    env: Environment, name: str | None, after: int | None, actions: tuple[str, ...], submitted: bool, follow: bool
) -> None:
    """Write settled records to standard output, one JSON document per line, in the order of their positions.

    With --name at least once: the position moves only after lines were flushed, so that what is killed in between
    writes them again. A last line without its end is to be thrown away. Of several with one name one writes; with
    --follow the others stand by.
    """
    env.bus.journal.require()
    for action in actions:
        refuse_unknown_action(env, env.bus.journal, action)
    wanted = WantedRecords(frozenset(actions) or None, None if submitted else _SHOWN)
    with until_asked(ends_when_asked_again=True) as stop:
        if name is None:
            _unnamed(env.bus, after or 0, wanted, stop if follow else None)
        else:
            _named(env.bus, name, after, wanted, stop, follow=follow)


def _write(records: Sequence[Record]) -> None:
    """The lines, flushed to whoever reads them."""
    out = sys.stdout
    out.write("".join(f"{json_line(record.public())}\n" for record in records))
    out.flush()


def _unnamed(bus: Bus, position: int, wanted: WantedRecords, stop: threading.Event | None) -> None:
    """To the end of what is settled; with `stop` on and on until it is set."""
    while stop is None or not stop.is_set():
        with _waited_for(bus, stop), Waking(bus.engine) as waking:
            follower = SharedReading(bus.journal).follower(wanted)
            while stop is None or not stop.is_set():
                batch = follower.read(position, _BATCH)
                _write(batch.records)
                position = max(position, batch.end)
                if not batch.is_full:
                    if stop is None:
                        return
                    waking.sleep(stop)


@contextmanager
def _waited_for(bus: Bus, stop: threading.Event | None) -> Iterator[None]:
    """Who follows, which is who has a `stop`, outlives a database that is away, as workers and projectors do."""
    try:
        yield
    except (SQLAlchemyError, JournalUnavailable, bus.engine.dialect.loaded_dbapi.Error) as error:
        if stop is None:
            raise
        say(f"waiting for the database: {first_line(error)}", stderr=True)
        stop.wait(_AWAY_S)


def _named(
    bus: Bus, name: str, after: int | None, wanted: WantedRecords, stop: threading.Event, *, follow: bool
) -> None:
    ledger = Ledger(bus.backend)
    if not is_name(name):
        raise click.BadParameter(f"{name!r} is not a name of a-z, 0-9 and _", param_hint="--name")
    if name in {each.name for each in (*bus.application.subscriptions, *bus.application.projections)}:
        raise click.BadParameter(f"{name!r} is a projection or subscription of the application", param_hint="--name")
    if after is not None and (known := ledger.checkpoint(row_name(name), 1)):
        raise click.BadParameter(
            f"{name} is at position {known.position}; `actionbus subscriptions reset {name} --to POSITION` moves it",
            param_hint="--after",
        )
    row = place_of(ledger, name, after or 0)
    while not stop.is_set():
        claim = Claim(bus.engine, ledger, row, bus.backend.schema)
        try:
            with _waited_for(bus, stop if follow else None):
                if not _claimed(claim, name, stop, follow=follow):
                    return
                delivery = Delivery(bus, ledger, name, row, claim, SharedReading(bus.journal), wanted, _write, _BATCH)
                _hand_over(delivery, claim.sleep, stop, follow=follow)
                if not follow:
                    return
        except IndexBusy:  # its position was moved by an operator, or our connection was lost: begin anew
            stop.wait(_STANDING_BY_S)
        finally:
            claim.release()


def _claimed(claim: Claim, name: str, stop: threading.Event, *, follow: bool) -> bool:
    """Whether the name is ours, once whoever has it is gone; without --follow nobody waits for one that lives."""
    if not follow:
        if not claim.acquire_from_the_dead():
            raise fail(f"another process streams {name}; with --follow this one would stand by", USAGE)
        return True
    told = False
    while not stop.is_set():
        if claim.acquire():
            return True
        if not told:
            say(f"another process streams {name}; standing by", stderr=True)
            told = True
        stop.wait(_STANDING_BY_S)
    return False


def _hand_over(
    delivery: Delivery, sleep: Callable[[threading.Event], None], stop: threading.Event, *, follow: bool
) -> None:
    delivery.reload()
    while not stop.is_set():
        try:
            done = delivery.step()
        except DeliveryFailed as failed:  # the pipe is broken, or the disk is full: nothing that a retry would mend
            raise failed.error from None
        if not done.more:
            if not follow:
                return
            delivery.report("running")
            sleep(stop)
