"""`actionbus worker`: runs queued actions, and sends messages for those that come due."""

from __future__ import annotations

import logging
import os

import click

from actionbus.adapters.cli.common import Environment, pass_environment
from actionbus.adapters.cli.signals import exits_on_sigterm
from actionbus.adapters.logs import log_to_stderr


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
    """Run queued actions with Celery until SIGTERM or Ctrl-C.

    Also sends messages for actions that come due, and again for those whose message was lost, so at least one worker
    must run for delays and schedules. Any number may run, on any number of machines.

    \b
    actionbus --broker redis://localhost worker
    actionbus --broker redis://localhost worker --queue media --concurrency 4

    On SIGTERM it takes no more, ends what it runs, and exits 0. Killed, it leaves nothing half-done: what it ran is
    run again.
    """
    with exits_on_sigterm():
        raise SystemExit(_work(env, queues, concurrency))


def _work(env: Environment, queues: tuple[str, ...], concurrency: int) -> int:
    env.bus.journal.require()
    if env.bus.queue is None:
        raise click.UsageError("say where queued actions go: --broker redis://localhost, or ACTIONBUS_BROKER_URL")
    from actionbus.adapters.celery import work

    known = env.bus.registry.queues()
    if unknown := sorted(set(queues) - set(known)):
        raise click.BadParameter(
            f"no action names the queue {', '.join(unknown)}; there are: {', '.join(known)}", param_hint="--queue"
        )
    if not logging.getLogger().handlers:
        log_to_stderr(env.log_format)
    return work(env.bus, queues or known, concurrency)
