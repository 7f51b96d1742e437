"""Names that are mistyped on a command line would find nothing, as if nothing had been done: they are refused.

What history has may be declared no more, so both are asked. `log`, `journal stream` and `replay verify` call it; of
queues, `worker` and `runs`.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from actionbus.adapters.cli.common import Environment
from actionbus.core import Journal, JournalFilter
from actionbus.core.browsing.pages import newest


def refuse_unknown_action(env: Environment, journal: Journal, action: str) -> None:
    """Raise BadParameter unless there is such an action, or was one."""
    if not _any(journal, JournalFilter(action=action, kind=("outcome", "bypass"))):
        known, declared = _actions_of(env)
        if action not in declared:
            raise click.BadParameter(_unknown("action", action, known), param_hint="--action")


def refuse_unknown_table(env: Environment, journal: Journal, touching: str) -> None:
    """Raise BadParameter unless there is such a table, or was one. The key of a row may stand behind it."""
    table = touching.partition(":")[0]
    if not table:
        raise click.BadParameter(f"{touching!r} names no table", param_hint="--touching")
    if not _any(journal, JournalFilter(touching=(table,))):
        tables = _tables_of(env)
        if tables is not None and table not in tables:
            raise click.BadParameter(_unknown("table", table, tables), param_hint="--touching")


def refuse_unknown_queues(env: Environment, queues: Sequence[str]) -> None:
    """Raise BadParameter unless actions name all of these queues."""
    known = env.bus.registry.queues()
    if unknown := sorted(set(queues) - set(known)):
        told = ", ".join(map(repr, unknown))  # a name may hold what would begin another line
        there = ", ".join(known)
        raise click.BadParameter(f"no action names the queue {told}; there are: {there}", param_hint="--queue")


def _actions_of(env: Environment) -> tuple[list[str], set[str]]:
    """The everyday actions that are declared, and all of them; none where there is no application to be asked."""
    try:
        registry = env.registry
    except Exception:  # an application's modules raise what they like
        return [], set()
    return [each.name for each in registry.everyday()], {each.name for each in registry}


def _tables_of(env: Environment) -> list[str] | None:
    """The tables of the application's models; None where nobody knows which tables there are."""
    try:
        models = env.application.models
    except Exception:
        return None
    return None if models is None else sorted(models.tables)


def _any(journal: Journal, where: JournalFilter) -> bool:
    return bool(newest(journal, where, most=1))


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    there = f"; there are: {', '.join(known)}" if known else ""
    return f"there is no {what} {name!r}, nor was there one{there}"
