"""`actionbus up`: all parts of a service at once, for development or a small machine."""

from __future__ import annotations

import sys
import threading
from functools import partial
from importlib.util import find_spec
from typing import Final

import click

from actionbus.adapters.cli.common import Environment, pass_environment
from actionbus.adapters.cli.printing import say
from actionbus.adapters.cli.signals import exits_on_sigterm
from actionbus.adapters.cli.worker import grace_option, hand_back, log_unless_logged, worker_parts
from actionbus.adapters.library.app import library
from actionbus.adapters.supervisor import Part, Supervisor
from actionbus.projections import Projector

_API: Final = "HTTP API"


@click.command()
@click.option("-c", "--concurrency", type=click.IntRange(1, 1000), default=1, show_default=True, help="Workers.")
@click.option(
    "--serve/--no-serve",
    "serves",
    default=None,
    help="Serve the HTTP API too; by default if it is installed and is told who callers are.",
)
@click.option("--port", type=click.IntRange(0, 65_535), default=8000, show_default=True, help="Of the HTTP API.")
@click.option(
    "--authenticate",
    envvar="ACTIONBUS_AUTHENTICATE",
    show_envvar=True,
    metavar="MODULE:FUNCTION",
    help="Who sends a request, as of `actionbus serve`.",
)
@grace_option
@pass_environment
def up(
    env: Environment, concurrency: int, serves: bool | None, port: int, authenticate: str | None, grace: float
) -> None:
    """Run all parts of a service until SIGTERM or Ctrl-C: for development, or a small machine.

    Workers, schedules and recovery; the projector, if there are projections; the HTTP API. Each is a process; one that
    dies is started again. On SIGTERM each ends what it is at, and the command exits 0.

    \b
    actionbus up
    actionbus --app shop.app:app up --authenticate none
    """
    with exits_on_sigterm():
        env.bus.journal.require()
        log_unless_logged(env)
        parts = [*_workers(env, concurrency), *_projector(env), *_server(env, serves, port, authenticate)]
        say(f"running {', '.join(part.name for part in parts)}; Ctrl-C ends all")
        if serves is None and not any(part.name == _API for part in parts):
            say(f"no {_API}: {_why_not_served()} (--no-serve leaves this line out)", stderr=True)
        sys.stdout.flush()
        env.bus.backend.renew_pool()  # what was asked is no connection of the children's
        raise SystemExit(Supervisor(parts, grace=grace, hands_back=partial(hand_back, env.bus)).run())


def _why_not_served() -> str:
    if find_spec("flask") is None:
        return "it needs the extra: pip install 'actionbus[flask]'"
    return "nobody says who sends a request; --authenticate MODULE:FUNCTION does, or `none`"


def _workers(env: Environment, concurrency: int) -> list[Part]:
    if not env.bus.broker.carries:
        return worker_parts(env.bus, (), concurrency)
    from actionbus.adapters.celery import work

    def run(_stop: threading.Event) -> None:  # Celery listens to the same signals by itself
        raise SystemExit(work(env.bus, env.bus.registry.queues(), concurrency))

    return [Part("worker", run)]


def _projector(env: Environment) -> list[Part]:
    if not env.application.projections:
        return []
    return [Part("projector", lambda stop: Projector(env.bus, env.store).run(stop))]


def _server(env: Environment, serves: bool | None, port: int, authenticate: str | None) -> list[Part]:
    is_told = bool(authenticate) or env.application is library
    if not (is_told and find_spec("flask") is not None if serves is None else serves):
        return []
    from actionbus.adapters.cli.serve import serve_here

    return [Part(_API, lambda _stop: serve_here(env, port, authenticate))]
