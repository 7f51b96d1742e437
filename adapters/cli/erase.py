"""`actionbus history erase`: one subject's data, for good; and what `history install --personal` declares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from actionbus.adapters.cli.common import Environment, json_option, pass_environment, print_json, refuse_missing
from actionbus.adapters.cli.printing import counted, say
from actionbus.core import Application, Bus
from actionbus.core.declare.personal import TableDeclaration
from actionbus.core.storage.archive_ddl import ATTACHED
from actionbus.core.storage.archives import archives
from actionbus.core.storage.engines import make_engine
from actionbus.replay.archives.archive_subjects import SubjectSearch
from actionbus.replay.errors import ReplayError


@click.command()
@click.argument("subject")
@click.option("--actor", metavar="NAME", help="Who does it, for the record.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_environment
def erase(env: Environment, subject: str, actor: str | None, yes: bool, as_json: bool) -> None:
    """Erase what is recorded of one subject, for good: personal columns in row images, keys of personal arguments.

    \b
    SUBJECT is the id that columns declared with info={"personal": …} name.
    The record of it does not say who it was; with the receipt that is printed, and kept nowhere, it can be shown.
    """
    bus = bus_of(env)
    if not yes:
        click.confirm("Values that are erased cannot be had back. Erase?", abort=True, err=True)
    erasure = bus.erase(subject, actor=actor, operator=True)
    told = {
        "action_id": erasure.outcome.action_id,
        "position": erasure.outcome.position,
        "receipt": erasure.receipt,
        "images": erasure.images,
        "standing": erasure.standing,
        "keys": erasure.keys,
        "archives": (held := [_in_archive(bus, subject, folder) for folder in erasure.archives]),
    }
    if as_json:
        print_json(told)
    else:
        images = ", ".join(f"{count} of {table}" for table, count in erasure.images.items()) or "none"
        say(f"position {erasure.outcome.position}: images erased: {images}; keys of arguments: {erasure.keys}")
        say(f"receipt: {erasure.receipt}")
    for table, count in erasure.standing.items():
        hold = f"{counted(count, 'row')} of {table} still {'holds' if count == 1 else 'hold'} personal values"
        say(("note:", "yellow"), f" {hold}; an action of the application removes them", stderr=True)
    attached = {each.folder for each in archives(bus.backend) if each.state == ATTACHED} if held else set()
    for each in held:
        if (why := _why(each, is_attached=each["folder"] in attached)) is not None:
            say(("note:", "yellow"), f" {each['folder']} {why}", stderr=True)


def _in_archive(bus: Bus, subject: str, folder: str) -> dict[str, Any]:
    """What a folder has of the subject, as JSON; nulls where nobody can tell."""
    try:
        found = SubjectSearch(bus, subject).look(Path(folder))
    except ReplayError as error:
        return {"folder": folder, "images": None, "unnamed": None, "error": str(error)}
    return {"folder": folder, "images": found.named, "unnamed": found.unnamed, "error": None}


def _why(held: dict[str, Any], *, is_attached: bool) -> str | None:
    """Why something has to be done about an archive; None if nothing of the subject is in it."""
    then = "attach it, erase again and archive anew, and delete it and its copies"
    if is_attached:  # its images are here, where he is erased now
        then = "delete it and its copies, if that is not done: what it holds is attached, and can be archived anew"
    if held["error"]:
        return f"cannot be read from here, and may hold personal values of the subject: {held['error']}; {then}"
    if held["images"]:
        return f"still holds personal values of the subject, in {counted(held['images'], 'row image')}: {then}"
    if held["unnamed"]:
        images = counted(held["unnamed"], "row image")
        return f"has {images} with personal values of nobody named, which may be the subject's: {then}"
    return None


def bus_of(env: Environment) -> Bus:
    """The application's; where nobody named one, of a database alone."""
    if not env.app_is_default:
        return env.bus
    refuse_missing(env.database)
    bus = Bus(Application("actionbus", actions=[]), make_engine(env.database), schema=env.schema)
    click.get_current_context().find_root().call_on_close(bus.backend.renew_pool)
    return bus


personal_option = click.option(
    "--personal", multiple=True, metavar="TABLE.COLUMN=SUBJECT", help="A column that can be erased, and whose it is."
)


def declared_by(told: str) -> TableDeclaration:
    """What an option says. Raises BadParameter."""
    column, _, subject = told.partition("=")
    table, _, name = column.rpartition(".")
    if not (table and name and subject):
        raise click.BadParameter(f"{told!r} is to be TABLE.COLUMN=SUBJECT", param_hint="--personal")
    schema, _, bare = table.rpartition(".")
    return TableDeclaration(bare, schema or None, {name: subject}, None)
