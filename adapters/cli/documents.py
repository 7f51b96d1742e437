"""`actionbus history documents`: a projection's documents at a position, which take the present code."""

from __future__ import annotations

from typing import Any

import click

from actionbus.adapters.cli.common import Environment, json_option, pass_environment, print_json
from actionbus.adapters.cli.printing import USAGE, fail, say
from actionbus.adapters.cli.progress import progress
from actionbus.core import Application
from actionbus.core.values.payload import dumps
from actionbus.projections import Projection, documents_at

_LONGEST = 100


@click.command()
@click.argument("projection")
@click.option(
    "--at", default="end", show_default=True, metavar="POINT", help="POSITION, ISO 8601 TIME, ACTION_ID, start or end."
)
@json_option
@pass_environment
def documents(env: Environment, projection: str, at: str, as_json: bool) -> None:
    """Show a projection's documents as they were.

    They are folded from the records by the reducers as they are now, unlike all else that is told here: it takes --app.
    """
    bus = env.bus
    bus.journal.require()
    chosen, position = _projection(bus.application, projection), bus.history.position(at)
    wanted = chosen.wanted_actions()
    with progress("folding", None if wanted else bus.journal.count(upto=position)) as advance:
        then = documents_at(bus.journal, chosen, position, advance)
    for key, document in then.documents.items():
        if as_json:
            print_json({"key": key, "document": document})
        else:
            say((key, "bold"), f"  {_shown(document)}")
    say(("note:", "yellow"), f" {then.basis}", stderr=True)


def _projection(application: Application, name: str) -> type[Projection]:
    for each in application.projections:
        if each.name == name and isinstance(each, type) and issubclass(each, Projection):
            return each
    known = ", ".join(each.name for each in application.projections) or "none"
    raise fail(f"there is no projection {name!r}; there are: {known}", USAGE)


def _shown(document: dict[str, Any]) -> str:
    text = dumps(document)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
