"""contend: reads rows that all processes write, and writes one; it is tried again where that cannot be serialized."""

from typing import Any
from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.orm import Session

from actionbus import ActionHandler, Arg


class Contend(ActionHandler):
    """Put the sum of all into one; each attempt has a mark of its own."""

    requires = ("session",)
    arguments = {"id": Arg(int, required=True)}
    isolation = "SERIALIZABLE"
    session: Session

    def execute(self) -> dict[str, Any]:
        run, mark = self.session.execute, f"attempt {uuid4()}"
        total = run(text("SELECT coalesce(sum(n), 0) FROM shared")).scalar_one() % 1000
        sql = "UPDATE shared SET n = :n, mark = :m WHERE id = :i"
        run(text(sql), {"n": total + 1, "m": f"{mark} early", "i": self.args.id})
        run(text(sql), {"n": total, "m": mark, "i": self.args.id})
        return {"id": self.args.id, "n": total, "mark": mark}
