"""The roles of docs/rights.md, made in a database by the statements of that page."""

from __future__ import annotations

import re
from uuid import uuid4

from sqlalchemy.engine import URL

from tests.core.storage.past_the_gateway import now
from tests.helpers import ROOT

PAGE = (ROOT / "docs" / "rights.md").read_text()
BLOCKS = re.findall(r"^```sql( hardened)?\n(.*?)^```$", PAGE, re.M | re.S)
ROLES = ("shop_app", "shop_reader", "shop_projector", "shop_owner", "shop_historian", "shop_eraser", "shop_reverter")
OWN = (
    "GRANT SELECT, INSERT, UPDATE ON accounts, entries TO shop_app; "
    "GRANT USAGE ON SEQUENCE accounts_id_seq, entries_id_seq TO shop_app"
)
"""The rights on its own tables."""


class Roles:
    """The roles of the page in one database, whose schema is closed to everybody else."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self.suffix = uuid4().hex[:8]
        now(url, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
        for hardened, block in BLOCKS:
            if not hardened:
                self.run(block)

    def run(self, sql: str) -> None:
        """Run some of the page as the tables' owner, with names of our own for the roles."""
        for role in ROLES:
            sql = sql.replace(role, self.name(role))
        now(self.url, sql)

    def drop(self) -> None:
        """Remove the roles, which are the server's."""
        for role in ROLES:
            self.run(f"DROP OWNED BY {role}; DROP ROLE {role}")

    def name(self, role: str) -> str:
        """The role as it is called here: roles belong to the server, which other tests use."""
        return f"{role}_{self.suffix}"

    def at(self, role: str) -> URL:
        """The database as a role connects to it."""
        return self.url.set(username=self.name(role))
