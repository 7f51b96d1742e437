"""`actionbus search`: look through a projection's documents as a user would."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape, unescape
from typing import Any

import click
from rich.text import Text

from actionbus.adapters.cli.common import Environment, json_option, pass_environment, print_json
from actionbus.adapters.cli.printing import line, say, say_short
from actionbus.adapters.es_repo import EsRepo
from actionbus.projections.errors import QueryRefused
from actionbus.projections.search import BOUNDS, MATCHES, START, Hit, Hits, Match

_SHOWN = 4
_AT_ONCE = 500
"""Hits of a page where all are wanted."""


@click.command()
@click.argument("words", nargs=-1)
@click.option("--in", "projection", metavar="NAME", show_default="the application's first", help="Which projection.")
@click.option("--where", "filters", multiple=True, metavar="FIELD=VALUE", help="Only where a field has this value.")
@click.option(
    "--range", "ranges", multiple=True, metavar="FIELD:BOUND:VALUE", help="Only where a field is gt, gte, lt or lte."
)
@click.option(
    "--match",
    type=click.Choice(MATCHES),
    default=MATCHES[0],
    show_default=True,
    help="Words apart, side by side, or the last one as a beginning.",
)
@click.option("--sort", multiple=True, metavar="FIELD", help="By a field; -FIELD for descending. Best fit if left out.")
@click.option("--facet", "facets", multiple=True, metavar="FIELD", help="Count the values of a field over all hits.")
@click.option("--limit", type=click.IntRange(1, 1000), default=10, show_default=True, help="Hits on a page.")
@click.option(
    "--page", type=click.IntRange(1), default=1, show_default=True, help="Which page, up to the 10,000th hit."
)
@click.option("--all", "whole", is_flag=True, help="All hits, however many; --limit and --page do not matter.")
@json_option
@pass_environment
def search(
    env: Environment,
    words: tuple[str, ...],
    projection: str | None,
    filters: tuple[str, ...],
    ranges: tuple[str, ...],
    match: Match,
    sort: tuple[str, ...],
    facets: tuple[str, ...],
    limit: int,
    page: int,
    whole: bool,
    as_json: bool,
) -> None:
    """Find documents that have all the WORDS, in any language they are in.

    \b
    actionbus search grinning face
    actionbus search Gesicht --where kind=icon --facet tags
    actionbus search --in activity --where actor=dora
    actionbus search --match phrase "red apple" --range added_at:gte:2026-01-01 --sort -added_at
    actionbus search --all --json
    """
    env.bus.journal.require()
    repo = EsRepo(env.store, env.application.projections)
    asked: dict[str, Any] = {
        "text": " ".join(words),
        "filters": _filters(filters),
        "ranges": _ranges(ranges),
        "match": match,
        "sort": sort,
        "facets": facets,
    }
    where: dict[str, Any] = (
        {"limit": _AT_ONCE, "after": START} if whole else {"limit": limit, "offset": (page - 1) * limit}
    )
    name = _chosen(env, projection)
    while True:
        try:
            found = repo.search(name, **asked, **where)
        except QueryRefused as error:
            raise click.UsageError(str(error)) from None
        _show(found, as_json)
        if found.next is None:
            break
        where["after"], asked["facets"] = found.next, ()
    if not as_json:
        names = [each.name for each in env.application.projections if each.name != name]
        others = names if not found.total and projection is None else ()
        show_total(found.total, page, 1 if whole else -(-found.total // limit) or 1, others)


def _show(found: Hits, as_json: bool) -> None:
    if not as_json:
        show_hits(found)
        return
    for hit in found.hits:
        print_json({"key": hit.key, "score": hit.score, "document": hit.document, "highlights": hit.highlights})


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


def _ranges(given: tuple[str, ...]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for each in given:
        name, _, rest = each.partition(":")
        bound, separator, value = rest.partition(":")
        if not name or not separator or bound not in BOUNDS:
            form = f"FIELD:BOUND:VALUE, where BOUND is one of {', '.join(BOUNDS)}"
            raise click.BadParameter(f"{each!r} is not of the form {form}", param_hint="--range")
        if found.setdefault(name, {}).setdefault(bound, value) != value:
            raise click.BadParameter(f"{name!r} is bounded by {bound} more than once", param_hint="--range")
    return found


def show_hits(found: Hits) -> None:
    """Print a page of hits for a person."""
    for hit in found.hits:
        say_short(_line(hit), hit.key)
    for name, values in found.facets.items():
        counts = ", ".join(f"{value} {count}" for value, count in list(values.items())[:12])
        if counts:
            say((name, "bold"), f": {counts}")


def show_total(total: int, page: int = 1, pages: int = 1, others: Sequence[str] = ()) -> None:
    """Print how many were found, and where else one might look."""
    elsewhere = f"; elsewhere: --in {', --in '.join(others)}" if others else ""
    say((f"{total:,} found" + (f", page {page} of {pages}" if pages > 1 else "") + elsewhere, "dim"))


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
    return made


def _marked(text: str) -> Text:
    parts = enumerate(text.replace("</em>", "<em>").split("<em>"))
    return line(*((unescape(part), "bold yellow" if number % 2 else "") for number, part in parts))
