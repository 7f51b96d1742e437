"""`actionbus worker`: runs queued actions, by itself or woken by a broker."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from functools import partial

import click

from actionbus.adapters.cli.common import Environment, FiniteRange, pass_environment
from actionbus.adapters.cli.mistyped import refuse_unknown_queues
from actionbus.adapters.cli.signals import exits_on_sigterm
from actionbus.adapters.logs import log_to_stderr
from actionbus.adapters.supervisor import GRACE_S, Part, Supervisor, at_work
from actionbus.core import Bus
from actionbus.core.queueing.claiming import take_back
from actionbus.core.queueing.dispatcher import Dispatcher
from actionbus.core.queueing.limits import Process
from actionbus.core.queueing.worker import Worker, worker_name

_DISPATCHER_ENDS_S = 5.0
grace_option = click.option(
    "--grace",
    envvar="ACTIONBUS_GRACE",
    type=FiniteRange(0, 1_000_000_000),
    default=GRACE_S,
    show_default=True,
    show_envvar=True,
    metavar="SECONDS",
    help="After SIGTERM or Ctrl-C, until what still runs is ended and handed back.",
)
"""Of whatever runs workers."""


@click.command()
@click.option("-q", "--queue", "queues", multiple=True, metavar="NAME", help="Take only from this queue; repeatable.")
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(1, 1000),
    default=lambda: os.cpu_count() or 1,
    show_default="one per core",
    help="Processes that run actions.",
)
@grace_option
@pass_environment
def worker(env: Environment, queues: tuple[str, ...], concurrency: int, grace: float) -> None:
    """Run queued actions until SIGTERM or Ctrl-C.

    Without a broker its processes claim what is due in the database; with one, Celery wakes them. Also queues what
    schedules say, takes back what dead workers had and recovers actions, so at least one worker must run for delays and
    schedules. Any number may run, on any number of machines, with and without a broker on one database.

    \b
    actionbus worker
    actionbus worker --queue media --concurrency 4
    actionbus --broker redis://localhost worker

    On SIGTERM it takes no more, ends what it runs, and exits 0; what takes longer than --grace is handed back, to be
    begun again (without a broker). Killed, it leaves nothing half-done: what it ran is run again.
    """
    with exits_on_sigterm():
        raise SystemExit(_work(env, queues, concurrency, grace))


def _work(env: Environment, queues: tuple[str, ...], concurrency: int, grace: float) -> int:
    env.bus.journal.require()
    refuse_unknown_queues(env, queues)
    log_unless_logged(env)
    if not env.bus.broker.carries:
        env.bus.backend.renew_pool()  # what was asked is no connection of the children's
        parts = worker_parts(env.bus, queues, concurrency)
        return Supervisor(parts, grace=grace, hands_back=partial(hand_back, env.bus)).run()
    from actionbus.adapters.celery import work

    return work(env.bus, queues or env.bus.registry.queues(), concurrency)


def log_unless_logged(env: Environment) -> None:
    """Show the log, unless the application has its own way to."""
    if not logging.getLogger().handlers:
        log_to_stderr(env.log_format)


def worker_parts(bus: Bus, queues: Sequence[str], concurrency: int) -> list[Part]:
    """Processes that claim and run; the first has the dispatcher too."""
    parts = [Part("worker 1", lambda stop: _run_worker(bus, queues, stop, dispatches=True))]
    for number in range(2, concurrency + 1):
        parts.append(Part(f"worker {number}", lambda stop: _run_worker(bus, queues, stop, dispatches=False)))
    return parts


def hand_back(bus: Bus, processes: Sequence[int]) -> None:
    """Give others what workers had in processes that were ended."""
    for process in processes:
        take_back(bus.services, worker_name(process))


def _run_worker(bus: Bus, queues: Sequence[str], stop: threading.Event, *, dispatches: bool) -> None:
    Process.is_worker, Process.tell = True, at_work
    dispatcher = threading.Thread(target=Dispatcher(bus).run, args=[stop], name="actionbus dispatcher", daemon=True)
    if dispatches:
        dispatcher.start()
    Worker(bus, queues).run(stop)
    if dispatches:
        dispatcher.join(_DISPATCHER_ENDS_S)
