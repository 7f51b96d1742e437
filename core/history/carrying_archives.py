"""Where a carried journal begins: what was archived or pruned in the database that it comes from.

Used by `replay.archives.transfer`: without it the baseline at the cut of an archive would have no place elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from actionbus.core.errors import HistoryError
from actionbus.core.history.carrying import older
from actionbus.core.storage.archive_ddl import ARCHIVES, ATTACHED, REMOVED
from actionbus.core.storage.archives import Archive, archives
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.names import in_text
from actionbus.core.values import payload


def gone_of(backend: Backend) -> list[dict[str, Any]]:
    """What is not in a journal any more, as JSON has it."""
    return [_plain(each) for each in archives(backend) if each.state != ATTACHED]


def bring_gone(backend: Backend, connection: Connection, told: Iterable[dict[str, Any]]) -> None:
    """Write what `gone_of` told into a database to which the journal is brought."""
    is_postgresql = connection.dialect.name == "postgresql"
    for each in told:
        if set(each) != set(Archive._fields):  # their names are to be columns of a statement
            raise HistoryError("what is to be imported says of an archive what no archive has; it is no export of ours")
        moments = {name: datetime.fromisoformat(each[name]) for name in ("moment", "made_at")}
        row = each | {
            "state": REMOVED,
            "ended": older(each["ended"]),
            "action_id": backend.written_id(UUID(each["action_id"])),
            "shapes": each["shapes"] if is_postgresql else payload.dumps(each["shapes"]),
        }
        for name, moment in moments.items():
            row[name] = backend.stored(moment)
        del row["archive"]
        columns, values = ", ".join(row), ", ".join(f":{name}" for name in row)
        connection.execute(text(f"INSERT INTO {in_text(backend.prefix)}{ARCHIVES} ({columns}) VALUES ({values})"), row)


def _plain(archive: Archive) -> dict[str, Any]:
    return archive._asdict() | {
        "shapes": sorted(archive.shapes),
        "moment": archive.moment.isoformat(),
        "made_at": archive.made_at.isoformat(),
        "action_id": archive.action_id.hex,
    }
