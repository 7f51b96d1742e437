"""`actionbus search`: look through a projection's documents as a user would."""

from __future__ import annotations

from html import escape, unescape
from typing import Any

import click
from rich.text import Text

from actionbus.adapters.cli.common import Environment, json_option, line, pass_environment, print_json, say, say_short
from actionbus.adapters.es_repo import EsRepo
from actionbus.projections.errors import QueryRefused
from actionbus.projections.store import Hit, Hits

_SHOWN = 4


@click.command()
@click.argument("words", nargs=-1)
@click.option("--in", "projection", metavar="NAME", show_default="the application's first", help="Which projection.")
@click.option("--where", "filters", multiple=True, metavar="FIELD=VALUE", help="Only where a field has this value.")
@click.option("--facet", "facets", multiple=True, metavar="FIELD", help="Count the values of a field over all hits.")
@click.option("--limit", type=click.IntRange(1, 1000), default=10, show_default=True, help="Hits on a page.")
@click.option("--page", type=click.IntRange(1), default=1, show_default=True, help="Which page.")
@json_option
@pass_environment
def search(
    env: Environment, words: tuple[str, ...], projection: str | None, filters: tuple[str, ...], facets: tuple[str, ...],
    limit: int, page: int, as_json: bool,
) -> None:  # fmt: skip
    """Find documents that have all the WORDS, in any language they are in.

    \b
    actionbus search grinning face
    actionbus search Gesicht --where kind=icon --facet tags
    actionbus search --in activity --where actor=dora
    """
    env.bus.journal.require()
    repo = EsRepo(env.store, env.application.projections)
    try:
        found = repo.search(
            _chosen(env, projection),
            " ".join(words),
            filters=_filters(filters),
            facets=facets,
            limit=limit,
            offset=(page - 1) * limit,
        )
    except QueryRefused as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        for hit in found.hits:
            print_json({"key": hit.key, "score": hit.score, "document": hit.document, "highlights": hit.highlights})
        return
    show_hits(found, page, limit)


def _chosen(env: Environment, name: str | None) -> str:
    names = [projection.name for projection in env.application.projections]
    if not names:
        raise click.UsageError("the application has no projections to look through")
    if name is not None and name not in names:
        raise click.BadParameter(f"there is no projection {name!r}; there are: {', '.join(names)}", param_hint="--in")
    return name or names[0]


def _filters(given: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in given:
        name, separator, value = each.partition("=")
        if not separator or not name:
            raise click.BadParameter(f"{each!r} is not of the form FIELD=VALUE", param_hint="--where")
        found.setdefault(name, []).append(value)
    return found


def show_hits(found: Hits, page: int, limit: int) -> None:
    """Print a page of hits for a person."""
    for hit in found.hits:
        say_short(_line(hit))
    for name, values in found.facets.items():
        counts = ", ".join(f"{value} {count}" for value, count in list(values.items())[:12])
        if counts:
            say((name, "bold"), f": {counts}")
    pages = -(-found.total // limit) or 1
    say((f"{found.total:,} found" + (f", page {page} of {pages}" if pages > 1 else ""), "dim"))


def _line(hit: Hit) -> Text:
    """The document's content and name, what was found, and where else."""
    document: dict[str, Any] = hit.document
    made = line(f"{document['content']} " if document.get("content") else "")
    name = hit.highlights.get("name", [escape(str(document.get("name") or document.get("actor") or hit.key))])[0]
    made.append_text(_marked(name))
    others = [
        each for field, several in hit.highlights.items() if field != "name" for each in several if "<em>" in each
    ]
    for other in others[:_SHOWN]:
        made.append("  ").append_text(_marked(other))
    return made.append_text(line((f"  {hit.key}", "dim")))


def _marked(text: str) -> Text:
    parts = enumerate(text.replace("</em>", "<em>").split("<em>"))
    return line(*((unescape(part), "bold yellow" if number % 2 else "") for number, part in parts))
