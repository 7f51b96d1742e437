"""run_sql: runs statements that a test put in place, so that no record holds what they write."""

from typing import Any, ClassVar

from sqlalchemy import text
from sqlalchemy.orm import Session

from actionbus import ActionHandler


class RunSql(ActionHandler):
    """Run them."""

    requires = ("session",)
    statements: ClassVar[list[tuple[str, dict[str, Any]]]] = []
    session: Session

    def execute(self) -> None:
        for sql, values in type(self).statements:
            self.session.execute(text(sql), values)
