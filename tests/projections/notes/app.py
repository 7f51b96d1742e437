"""The application, its projections, and what their documents must be by a fold that shares no code with ours."""

from __future__ import annotations

import os
from typing import Any

from actionbus import Application, Bus, Record
from actionbus.projections import Projection, on

Document = dict[str, Any]


class Notes(Projection):
    """Every note, with how often it was changed."""

    version = int(os.environ.get("NOTES_VERSION", "1"))
    mappings = {
        "dynamic": "strict",
        "properties": {
            "text": {"type": "text"},
            "number": {"type": "long"},
            "changes": {"type": "long"},
            "shelves": {"type": "keyword"},
            "extra": {"type": "keyword"},
            "flag": {"type": "boolean"},
        },
    }

    @on("put_note", key="note")
    def put(self, document: Document | None, record: Record) -> Document:
        """New or changed."""
        given = record.arguments
        if given["text"] == "poison":
            raise RuntimeError("cannot be digested")
        changes = document["changes"] + 1 if document else 0
        return {"text": given["text"], "number": given["number"], "changes": changes, "shelves": given["shelves"]}

    @on("drop_note", key="note")
    def drop(self, document: Document | None, record: Record) -> None:
        """Gone."""


def _shelves(record: Record) -> list[str]:
    return [f"shelf {name}" for name in record.arguments["shelves"]]


class Shelves(Projection):
    """Which notes were ever put on a shelf: one record folds into several documents."""

    mappings = {"properties": {"notes": {"type": "keyword"}}}

    @on("put_note", key=_shelves)
    def put(self, document: Document | None, record: Record) -> Document:
        """One more."""
        return {"notes": sorted({*(document or {}).get("notes", []), record.arguments["note"]})}


class Refusals(Projection):
    """What was refused, by whom."""

    @on("*", key=lambda record: record.actor or "nobody", statuses=["rejected", "denied", "failed"])
    def refused(self, document: Document | None, record: Record) -> Document:
        """One more."""
        return {"statuses": [*(document or {}).get("statuses", []), record.status]}


def make_application(*projections: type[Projection]) -> Application:
    """The notes with some projections."""
    return Application(
        "notes", actions=["tests.projections.notes.actions"], projections=projections or (Notes, Shelves, Refusals)
    )


def expected_notes(bus: Bus) -> dict[str, Document]:
    """A plain fold."""
    found: dict[str, Document] = {}
    for record in bus.journal.read():
        if record.kind != "outcome" or record.status != "succeeded":
            continue
        note = record.arguments.get("note")
        if record.action == "drop_note":
            found.pop(note, None)
        elif record.action == "put_note":
            changes = found[note]["changes"] + 1 if note in found else 0
            given = record.arguments
            found[note] = {
                "text": given["text"],
                "number": given["number"],
                "changes": changes,
                "shelves": given["shelves"],
            }
    return found
