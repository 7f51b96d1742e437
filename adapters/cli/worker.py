"""`actionbus worker`: runs queued actions, by itself or woken by a broker."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence

import click

from actionbus.adapters.cli.common import Environment, pass_environment
from actionbus.adapters.cli.mistyped import refuse_unknown_queues
from actionbus.adapters.cli.signals import exits_on_sigterm
from actionbus.adapters.logs import log_to_stderr
from actionbus.adapters.supervisor import Part, Supervisor
from actionbus.core import Bus
from actionbus.core.queueing.dispatcher import Dispatcher
from actionbus.core.queueing.limits import Process
from actionbus.core.queueing.worker import Worker

_DISPATCHER_ENDS_S = 5.0


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
@pass_environment
def worker(env: Environment, queues: tuple[str, ...], concurrency: int) -> None:
    """Run queued actions until SIGTERM or Ctrl-C.

    Without a broker its processes claim what is due in the database; with one, Celery wakes them. Also queues what
    schedules say, takes back what dead workers had and recovers actions, so at least one worker must run for delays and
    schedules. Any number may run, on any number of machines, with and without a broker on one database.

    \b
    actionbus worker
    actionbus worker --queue media --concurrency 4
    actionbus --broker redis://localhost worker

    On SIGTERM it takes no more, ends what it runs, and exits 0. Killed, it leaves nothing half-done: what it ran is
    run again.
    """
    with exits_on_sigterm():
        raise SystemExit(_work(env, queues, concurrency))


def _work(env: Environment, queues: tuple[str, ...], concurrency: int) -> int:
    env.bus.journal.require()
    refuse_unknown_queues(env, queues)
    log_unless_logged(env)
    if not env.bus.broker.carries:
        env.bus.backend.renew_pool()  # what was asked is no connection of the children's
        return Supervisor(worker_parts(env.bus, queues, concurrency)).run()
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


def _run_worker(bus: Bus, queues: Sequence[str], stop: threading.Event, *, dispatches: bool) -> None:
    Process.is_worker = True
    dispatcher = threading.Thread(target=Dispatcher(bus).run, args=[stop], name="actionbus dispatcher", daemon=True)
    if dispatches:
        dispatcher.start()
    Worker(bus, queues).run(stop)
    if dispatches:
        dispatcher.join(_DISPATCHER_ENDS_S)
