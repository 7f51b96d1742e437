"""`actionbus elasticsearch`: a real Elasticsearch on this machine, for development."""

from __future__ import annotations

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from actionbus.adapters.cli.common import json_option, print_json
from actionbus.adapters.cli.printing import FAILED, fail, say
from actionbus.adapters.local_elasticsearch.install import NotInstallable, install
from actionbus.adapters.local_elasticsearch.server import LocalServer


@click.group()
def elasticsearch() -> None:
    """A local Elasticsearch, without Docker: fetched once, run on 127.0.0.1, its data under var/elasticsearch.

    A server named by ACTIONBUS_ELASTICSEARCH_URL wins over it.
    """


@elasticsearch.command()
@click.option("--port", type=click.IntRange(1024, 65535), help="By default the first free one from 9200.")
def start(port: int | None) -> None:
    """Start it in the background, after installing it if need be."""
    try:
        say(f"Elasticsearch answers at {started(port)}")
    except (NotInstallable, TimeoutError) as error:
        raise fail(str(error), FAILED) from None


def started(port: int | None = None) -> str:
    """The URL of the local server, started if need be, with progress. Raises NotInstallable or TimeoutError."""
    terminal = Console(stderr=True)
    columns = (
        TextColumn("fetching Elasticsearch"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=terminal, disable=not terminal.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None)
        install(lambda done, total: bar.update(task, completed=done, total=total))
    return LocalServer().start(port)


@elasticsearch.command()
def stop() -> None:
    """Stop it; its data stays."""
    say("stopped" if LocalServer().stop() else "it does not run")


@elasticsearch.command()
@json_option
def status(as_json: bool) -> None:
    """Tell whether it runs, and where; exit with 1 if not."""
    server = LocalServer()
    url = server.url()
    if as_json:
        print_json({"url": url, "pid": server.pid(), "folder": str(server.folder)})
    else:
        say(f"runs at {url}, process {server.pid()}, log {server.log}" if url else "it does not run")
    if not url:
        raise SystemExit(FAILED)
