"""serially: counts up, in an isolation of its own."""

from sqlalchemy import text
from sqlalchemy.orm import Session

from actionbus import ActionHandler, Arg


class Serially(ActionHandler):
    """Add one to a thing's count."""

    isolation = "SERIALIZABLE"
    requires = ("session",)
    arguments = {"id": Arg(int, required=True)}
    session: Session

    def execute(self) -> int:
        self.session.execute(text("UPDATE things SET n = n + 1 WHERE id = :id"), {"id": self.args.id})
        return int(self.session.scalar(text("SELECT n FROM things WHERE id = :id"), {"id": self.args.id}) or 0)
