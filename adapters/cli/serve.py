"""`actionbus serve`: the HTTP API of an application, or a Flask app that has it, on a production WSGI server."""

from __future__ import annotations

import logging
import sys
from typing import Any

import click

from actionbus.adapters.cli.common import Environment, FiniteRange, pass_environment
from actionbus.adapters.cli.printing import UNAVAILABLE, fail, say
from actionbus.adapters.library.app import library
from actionbus.adapters.library.tokens import authenticator
from actionbus.adapters.logs import log_to_stderr
from actionbus.core.values.loading import load

_HELP = "Who sends a request: a function (request → actor or None), or 'none' to let everybody in as nobody."


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; 0.0.0.0 for the whole network.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8000, show_default=True, help="0 takes any free one.")
@click.option("--threads", type=click.IntRange(1, 500), default=8, show_default=True, help="Requests served at a time.")
@click.option(
    "--drain",
    type=FiniteRange(0, 3600),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long SIGTERM waits for requests under way.",
)
@click.option(
    "--authenticate",
    "authenticate_path",
    envvar="ACTIONBUS_AUTHENTICATE",
    show_envvar=True,
    metavar="MODULE:FUNCTION",
    help=_HELP,
)
@click.option(
    "--patience",
    type=FiniteRange(1, 3600),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a client may take to send a request, and to take its answer, in all.",
)
@click.option(
    "--allowed-host",
    "hosts",
    multiple=True,
    envvar="ACTIONBUS_ALLOWED_HOSTS",
    show_envvar=True,
    metavar="NAME",
    help="A host name that requests may be sent to; '*' for any, '.NAME' for all below. By "
    "default any, but localhost alone with '--authenticate none'. Addresses are always allowed.",
)
@click.option(
    "--allowed-origin",
    "origins",
    multiple=True,
    envvar="ACTIONBUS_ALLOWED_ORIGINS",
    show_envvar=True,
    metavar="URL",
    help="Another site whose pages may run actions, such as https://app.example.org.",
)
@click.option("--wsgi", metavar="MODULE:ATTRIBUTE", help="Serve this Flask app of yours instead.")
@pass_environment
def serve(
    env: Environment,
    host: str,
    port: int,
    threads: int,
    drain: float,
    authenticate_path: str | None,
    patience: float,
    hosts: tuple[str, ...],
    origins: tuple[str, ...],
    wsgi: str | None,
) -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C; requests under way are answered first.

    \b
    actionbus serve                                   the reference application, with API tokens
    actionbus --app shop.app:app serve --authenticate shop.web:who
    actionbus serve --wsgi shop.web:flask_app

    /docs is a page to try it from, /openapi.json describes it, /health/ready and /metrics are for operators.
    """
    try:
        from actionbus.adapters.flask.server import serve as serve_wsgi
    except ImportError as error:
        raise click.UsageError(str(error)) from None
    if wsgi:
        app = _load(wsgi, "WSGI application")
    else:
        settings = {
            "ACTIONBUS_ALLOWED_HOSTS": hosts,
            "ACTIONBUS_ALLOWED_ORIGINS": origins,
            "ACTIONBUS_MOST_WAITING": max(1, threads // 2),
        }
        app = _application(env, authenticate_path, settings)
    if not logging.getLogger().handlers:
        log_to_stderr(env.log_format)
    try:
        serve_wsgi(
            app, host, port, threads=threads, drain=drain, patience=patience, liveness=_liveness(app), ready=_tell
        )
    except OSError as error:
        raise fail(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port", UNAVAILABLE) from None


def serve_here(env: Environment, port: int, authenticate_path: str | None) -> None:
    """Serve the application on this machine alone, as `actionbus up` does, until a signal comes."""
    try:
        from actionbus.adapters.flask.server import serve as serve_wsgi
    except ImportError as error:
        raise click.UsageError(str(error)) from None
    app = _application(env, authenticate_path, {})
    try:
        serve_wsgi(app, "127.0.0.1", port, liveness=_liveness(app), ready=_tell)
    except OSError as error:
        raise fail(f"cannot listen on port {port}: {error.strerror}; choose another --port", UNAVAILABLE) from None


def _tell(address: str) -> None:
    say(f"serving {address}  (docs: {address}/docs; Ctrl-C ends it)")
    sys.stdout.flush()


def _liveness(app: Any) -> str | None:
    """Where the API of an app answers whether the process lives; None if the app has no API of ours."""
    config = getattr(app, "config", {})
    if "actionbus" not in getattr(app, "extensions", {}) or not config.get("ACTIONBUS_API", True):
        return None
    return f"{str(config.get('ACTIONBUS_URL_PREFIX') or '').rstrip('/')}/health/live"


def _application(env: Environment, authenticate_path: str | None, settings: dict[str, Any]) -> Any:
    from flask import Flask

    from actionbus.adapters.flask import ActionBus

    env.bus.journal.require()
    app = Flask("actionbus", static_folder=None)
    app.config.update(settings, ACTIONBUS_ELASTICSEARCH_URL=env.elasticsearch)
    ActionBus(app, bus=env.bus, authenticate=_authenticator(env, authenticate_path))
    return app


def _authenticator(env: Environment, path: str | None) -> Any:
    if path == "none":
        return None
    if path:
        return _load(path, "function")
    if env.application is library:
        return authenticator(env.bus)
    raise click.UsageError("say how callers are recognised: --authenticate MODULE:FUNCTION, or --authenticate none")


def _load(path: str, what: str) -> Any:
    try:
        found = load(path, what)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if not callable(found):
        raise click.UsageError(f"{path!r} is a {type(found).__name__}, which cannot be called")
    return found
