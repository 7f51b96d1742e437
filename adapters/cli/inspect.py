"""`actionbus inspect`: the inspector on the loopback interface, for whoever runs the command."""

from __future__ import annotations

import logging
import sys
import webbrowser
from typing import Final

import click

from actionbus.adapters.cli.common import Environment, pass_environment
from actionbus.adapters.cli.printing import UNAVAILABLE, fail, say
from actionbus.adapters.cli.replay_jobs import named
from actionbus.adapters.http.job_settings import FOLDER
from actionbus.adapters.http.jobs import Jobs
from actionbus.adapters.logs import log_to_stderr

_HOST: Final = "127.0.0.1"


@click.command()
@click.option("--port", type=click.IntRange(0, 65_535), default=0, metavar="PORT", help="By default any free one.")
@click.option("--open", "opens", is_flag=True, help="Open the address in the browser.")
@click.option("--actor", envvar="ACTIONBUS_ACTOR", metavar="ACTOR", help="Who acts, where something is reverted.")
@pass_environment
def inspect(env: Environment, port: int, opens: bool, actor: str | None) -> None:
    """Look at the history in a browser: actions, rows, who changed what, and where a value came from.

    Serves 127.0.0.1 alone, until Ctrl-C. The address that is printed opens once, in one browser.
    """
    serve_inspector(env, port=port, opens=opens, actor=actor)


def serve_inspector(env: Environment, *, port: int = 0, opens: bool = False, actor: str | None = None) -> None:
    """The same, for `actionbus demo --keep` too."""
    try:
        from actionbus.adapters.flask.server import serve
        from actionbus.adapters.inspector.door import Door
        from actionbus.adapters.inspector.mounting import THREADS, app_behind
    except ImportError as error:
        raise click.UsageError(str(error)) from None
    env.bus.journal.require()
    door = Door(env.bus, actor)

    def tell(address: str) -> None:
        whole = f"{address}/enter?token={door.token}"
        say(f"inspecting at {whole}  (opens once; Ctrl-C ends it)")
        sys.stdout.flush()
        if opens and not webbrowser.open(whole):
            say("no browser could be opened; open the address yourself", stderr=True)

    if not logging.getLogger().handlers:
        log_to_stderr(env.log_format)
    where = {"ACTIONBUS_ELASTICSEARCH_URL": env.elasticsearch} if env.elasticsearch else {}
    jobs = Jobs(FOLDER, named(env) | where)
    try:
        app = app_behind(door, env.bus, env.elasticsearch, jobs)
        serve(app, _HOST, port, threads=THREADS, liveness=None, ready=tell)
    except OSError as error:
        raise fail(f"cannot listen on {_HOST}:{port}: {error.strerror}; choose another --port", UNAVAILABLE) from None
    finally:
        jobs.close()
