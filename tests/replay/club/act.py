"""act: does one thing to a member's rows, or counts them."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from actionbus import ActionHandler, Arg

SQL: Final = {
    "enter": "INSERT INTO members (member, born, joined, points) VALUES (:id, 1900 + :id, '2020-01-01', :id)",
    "note": "INSERT INTO notes VALUES (:id, 10 * :id, 'of a member')",
    "renote": "UPDATE notes SET number = number + 1 WHERE member = :id",
    "point": "UPDATE members SET points = points + 1 WHERE member = :id",
    "leave": "DELETE FROM members WHERE member = :id",
    "rub": "DELETE FROM notes WHERE member = :id",
    "count": "SELECT count(*) FROM members WHERE member >= :id",
    "oldest": "SELECT min(born) FROM members WHERE member >= :id",
}


class Act(ActionHandler):
    """Do it; what it finds."""

    requires = ("session",)
    arguments = {"what": Arg(str, required=True), "member": Arg(int, required=True)}
    session: Session

    def execute(self) -> Any:
        found = self.session.execute(text(SQL[self.args.what]), {"id": self.args.member})
        return found.scalar() if found.returns_rows else None  # type: ignore[attr-defined]
