"""`actionbus demo`: imports the Unicode emoji set into the bundled library and shows what the journal tells."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from actionbus.adapters import database
from actionbus.adapters.cli.common import USAGE, Environment, fail, pass_environment, prepare_folder, say, say_short
from actionbus.adapters.cli.elasticsearch import started
from actionbus.adapters.cli.log import line_of
from actionbus.adapters.cli.progress import progress, watched
from actionbus.adapters.cli.search import show_hits
from actionbus.adapters.es_repo import EsRepo
from actionbus.adapters.library.emoji_input import CURATOR, Step, steps
from actionbus.adapters.local_elasticsearch.install import NotInstallable
from actionbus.adapters.wiring import EMBEDDED
from actionbus.core import ActionRunner, Bus, InvalidArguments, JournalFilter, PermissionDenied
from actionbus.core.gateway.failures import status_of
from actionbus.core.storage.engines import make_engine
from actionbus.core.values.record import Status
from actionbus.projections import Projector
from actionbus.projections.errors import IndexMissing

_KITS: Final = JournalFilter(action="create_kit", actor=CURATOR, status="succeeded")


@click.command()
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N steps.")
@pass_environment
def demo(env: Environment, limit: int | None) -> None:
    """Import the whole Unicode emoji set as kits and assets, through the gateway, by several actors."""
    prepare_folder(env.database)
    try:
        planned = steps()[:limit]
    except ImportError as error:
        raise fail(str(error), USAGE) from None
    engine = make_engine(env.database)  # not the bus's, which makes no database
    database.upgrade(engine, env.schema)
    engine.dispose()
    env.bus.create()
    Path(os.environ.get("ACTIONBUS_EXPORTS", "var/exports")).mkdir(parents=True, exist_ok=True)
    before = env.bus.journal.settled()
    importing = Import(env.bus)
    importing.run("importing emoji", planned)
    importing.run("the curator adds what others may not", [replace(step, actor=CURATOR) for step in importing.denied])
    say(", ".join(f"{number} {status}" for status, number in sorted(importing.counts.items())))
    _project(env)
    _show_what_happened(env.bus, before)


class Import:
    """Runs steps through the gateway; remembers the kits' ids, how many ended how, and what was denied."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._kits = {record.arguments["name"]: record.result["kit_id"] for record in bus.journal.read(where=_KITS)}
        self.counts: dict[str, int] = {}
        self.denied: list[Step] = []

    def run(self, title: str, planned: list[Step]) -> None:
        """Run every step, with progress."""
        runners = {actor: self._bus.runner(actor, context={"source": "emoji"}) for actor in {s.actor for s in planned}}
        with progress(title, len(planned)) as advance:
            for step in planned:
                status = self._run_step(runners[step.actor], step)
                self.counts[status] = self.counts.get(status, 0) + 1
                advance()

    def _run_step(self, runner: ActionRunner, step: Step) -> str:
        arguments = step.arguments | ({"kit_id": self._kits.get(step.kit)} if step.kit else {})
        try:
            outcome = runner.execute(step.action, arguments)
        except (InvalidArguments, PermissionDenied, IndexMissing) as error:
            status = status_of(error)
            if status == "denied" and step.action == "add_asset":
                self.denied.append(step)
            return status
        if step.action == "create_kit":
            self._kits[step.arguments["name"]] = outcome.result["kit_id"]
        return outcome.status


def _project(env: Environment) -> None:
    """Bring up the local Elasticsearch, or do without; fold the journal into documents; search them."""
    if not env.elasticsearch:
        try:
            say(f"Elasticsearch answers at {started()}; `actionbus elasticsearch stop` ends it")
        except (NotInstallable, TimeoutError) as error:
            say(f"no Elasticsearch here, so documents are kept in the database itself: {error}")
            env.elasticsearch = EMBEDDED
    with watched() as watch:
        Projector(env.bus, env.store).catch_up(watch)
    for words, facets in (("grinsendes Gesicht", ("kind", "added_by")), ("pomme", ("languages",))):
        say("")
        say((f"actionbus search {words}", "bold"))
        show_hits(EsRepo(env.store).search("assets", words, facets=facets, limit=5), 1, 5)


def _show_what_happened(bus: Bus, before: int) -> None:
    def lines(title: str, *, status: Status | None = None) -> None:
        say("")
        say((title, "bold"))
        found = (
            list(bus.journal.read(before, status=status, kind="outcome"))[-1:]
            if status
            else bus.journal.tail(8, kind="outcome")
        )
        for record in found:
            say_short(line_of(record))

    lines("The journal's tail")
    lines("A rejected action: its arguments were refused", status="rejected")
    lines("A denied one: the sharing rules said no", status="denied")
    lines("A failed one: it raised, and everything it did was rolled back", status="failed")
    command = "actionbus" if shutil.which("actionbus") else sys.argv[0]
    say("")
    say(("Next", "bold"))
    for what in (
        "log --status denied -n 5     who was not allowed what",
        "show POSITION                one action whole, with the rows that it touched",
        "search heart --facet tags    the assets, in any of eleven languages",
        "search --in activity         what everybody did",
        "projections status           how far the read models are",
        "journal stats                how often what ended how",
        "run create_kit --actor you --name 'My kit'",
        "run create_kit --help",
    ):
        say(f"  {command} {what}")
