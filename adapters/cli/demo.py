"""`actionbus demo`: imports the Unicode emoji set into the bundled library and shows what the journal tells."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import click

from actionbus.adapters import database
from actionbus.adapters.cli.common import Environment, pass_environment, prepare_folder
from actionbus.adapters.cli.demo_import import Import
from actionbus.adapters.cli.demo_tour import say_title, show_history, show_journal, show_next
from actionbus.adapters.cli.elasticsearch import started
from actionbus.adapters.cli.inspect import serve_inspector
from actionbus.adapters.cli.printing import USAGE, fail, say
from actionbus.adapters.cli.progress import watched
from actionbus.adapters.cli.search import show_hits, show_total
from actionbus.adapters.es_repo import EsRepo
from actionbus.adapters.library.emoji_input import CURATOR, ImportStep, steps
from actionbus.adapters.local_elasticsearch.install import NotInstallable
from actionbus.adapters.local_elasticsearch.server import LocalServer
from actionbus.adapters.wiring import EMBEDDED
from actionbus.core.storage.engines import make_engine
from actionbus.projections import Projector


@click.command()
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Add only the first N kits, shares and assets.")
@click.option(
    "--keep", is_flag=True, help="Leave the local Elasticsearch running, and serve the inspector until Ctrl-C."
)
@pass_environment
def demo(env: Environment, limit: int | None, keep: bool) -> None:
    """Import the whole Unicode emoji set as kits and assets, through the gateway, by several actors."""
    try:
        planned = steps(limit)
    except ImportError as error:
        raise fail(str(error), USAGE) from None
    _prepare(env)
    before = env.bus.journal.settled()
    _import(env, planned)
    is_ours = not env.elasticsearch and LocalServer().url() is None
    _choose_store(env)
    with watched() as watch:
        Projector(env.bus, env.store).catch_up(watch)
    _search(env)
    show_journal(env.bus, before)
    show_history(env.bus, before)
    is_stopped = is_ours and not keep and LocalServer().stop()
    show_next(has_stopped_elasticsearch=is_stopped)
    if keep:
        say("")
        serve_inspector(env)


def _prepare(env: Environment) -> None:
    """Make the database and the folder of exports."""
    prepare_folder(env.database)
    engine = make_engine(env.database)  # not the bus's, which makes no database
    say(f"A library of kits and assets, in {engine.url.render_as_string()}")
    database.upgrade(engine, env.schema)
    engine.dispose()
    env.bus.create()
    Path(os.environ.get("ACTIONBUS_EXPORTS", "var/exports")).mkdir(parents=True, exist_ok=True)


def _import(env: Environment, planned: list[ImportStep]) -> None:
    importing = Import(env.bus)
    importing.run("importing emoji", planned)
    importing.run("the curator adds what others may not", [replace(step, actor=CURATOR) for step in importing.denied])
    say(", ".join(f"{number} {status}" for status, number in sorted(importing.counts.items())))
    say("Refusals are staged: others try what they may not, and names come twice. Every one is in the journal.")


def _choose_store(env: Environment) -> None:
    """Bring up the local Elasticsearch, or do without."""
    if env.elasticsearch:
        return
    try:
        say(f"Elasticsearch answers at {started()}")
    except (NotInstallable, TimeoutError) as error:
        say(f"no Elasticsearch here, so documents are kept in the database itself: {error}")
        env.elasticsearch = EMBEDDED


def _search(env: Environment) -> None:
    for words, facets in (("grinsendes Gesicht", ("kind", "added_by")), ("pomme", ("languages",))):
        say_title(f"actionbus search {words}")
        found = EsRepo(env.store).search("assets", words, facets=facets, limit=5)
        show_hits(found)
        show_total(found.total, 1, -(-found.total // 5) or 1)
