"""Who may erase, and what races with it, on PostgreSQL."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, ProgrammingError

from actionbus import Bus, JournalUnavailable
from tests.adapters.rights.roles import ROLES
from tests.core.privacy.clinic import Clinic, canonical
from tests.helpers import ROOT
from tests.waiting import eventually

RIGHTS = (ROOT / "docs" / "rights.md").read_text()
ADA = {"patient_id": 1, "name": "Ada Lovelace"}


@pytest.fixture
def clinic(postgres_url: URL) -> Iterator[Clinic]:
    clinic = Clinic(postgres_url)
    yield clinic
    clinic.bus.close()


@pytest.fixture
def roles(clinic: Clinic) -> Iterator[dict[str, URL]]:
    """The roles of docs/rights.md, with rights on the clinic's tables."""
    suffix = uuid4().hex[:8]
    names = {each: f"{each}_{suffix}" for each in ROLES}

    def run(sql: str) -> None:
        for role, name in names.items():
            sql = sql.replace(role, name)
        clinic.past(sql)

    for block in re.findall(r"^```sql\n(.*?)^```$", RIGHTS, re.M | re.S):
        run(block)
    run("GRANT SELECT, INSERT, UPDATE, DELETE ON patients, visits, scraps TO shop_app")
    run("GRANT SELECT ON patients, visits, scraps TO shop_eraser")
    yield {each: clinic.url.set(username=name) for each, name in names.items()}
    for role in names:
        run(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_an_application_makes_keys_and_reads_by_them_and_cannot_erase(clinic: Clinic, roles: dict[str, URL]) -> None:
    with Bus(clinic.application, roles["shop_app"]) as bus:
        bus.execute("admit", ADA)
        assert [each.arguments["name"] for each in bus.journal.read(action="admit")] == ["Ada Lovelace"] * 2
        with pytest.raises(ProgrammingError, match="permission denied"):
            bus.erase(1)
        assert [each.arguments["name"] for each in bus.journal.read(action="admit")] == ["Ada Lovelace"] * 2
    engine = create_engine(roles["shop_app"])
    for statement in (
        "SELECT actionbus_erase('', 1, ARRAY[1]::bigint[], ARRAY[true], ARRAY[true], ARRAY[2], '')",
        "UPDATE actionbus_images SET after = NULL",
        "INSERT INTO actionbus_erasures (subject) VALUES ('')",
        "DELETE FROM actionbus_subject_keys",
    ):
        with engine.begin() as connection, pytest.raises(ProgrammingError, match="permission denied"):
            connection.execute(text(statement))
    engine.dispose()


def test_who_erases_needs_no_more_than_is_written(clinic: Clinic, roles: dict[str, URL]) -> None:
    clinic.run("INSERT INTO patients (id, name) VALUES (1, 'Ada')", "INSERT INTO visits VALUES (1, 1, 'fever', 5)")
    clinic.bus.execute("admit", ADA)
    with Bus(clinic.application, roles["shop_eraser"]) as bus:
        erasure = bus.erase(1)
    assert erasure.images == {"public.patients": 1, "public.visits": 1}
    assert erasure.keys == 1


def test_a_reader_without_keys_is_told_which_right_it_lacks(clinic: Clinic, roles: dict[str, URL]) -> None:
    clinic.bus.execute("admit", ADA)
    lacking = pytest.raises(JournalUnavailable, match="GRANT SELECT ON TABLE actionbus_subject_keys")
    with Bus(clinic.application, roles["shop_reader"]) as bus, lacking:
        list(bus.journal.read(action="admit"))


def test_not_even_the_owner_puts_another_value_there(clinic: Clinic) -> None:
    clinic.run("INSERT INTO patients (id, name) VALUES (1, 'Ada')")
    for value in ("(1,Eve,,,)", "(2, erased:00,,,)", f"(2, erased:{'0' * 64},,,)"):
        with clinic.bus.engine.begin() as connection:
            connection.execute(text("INSERT INTO actionbus_erasures (subject) VALUES (repeat('0', 64))"))
            with pytest.raises(DBAPIError, match="never changed or removed"):
                connection.execute(text("UPDATE actionbus_images SET after = :v"), {"v": value})


LOCK = "hashtext('actionbus erasure')"
ERASER = f"""SELECT a.query, a.query_start FROM pg_stat_activity a JOIN pg_locks l USING (pid) WHERE l.locktype = 'advisory'
    AND l.objid = ({LOCK}::bigint & 4294967295)::oid AND a.pid <> pg_backend_pid() AND {{granted}}"""


def test_what_is_being_written_when_it_begins_is_erased_too(clinic: Clinic) -> None:
    clinic.run("INSERT INTO patients (id, name) VALUES (1, 'Ada'), (2, 'Bob')")
    engine = create_engine(clinic.url)
    eraser = threading.Thread(target=clinic.bus.erase, args=(1,))
    seen: set[Any] = set()

    def is_asking_again() -> bool:
        """Whether it has looked several times who still writes."""
        with engine.connect() as other:
            rows = other.execute(text(ERASER.format(granted="l.granted"))).all()
        seen.update(began for query, began in rows if "virtualtransaction" in query)
        return len(seen) > 2

    with engine.connect() as writer:
        writer.execute(text("UPDATE patients SET name = 'Ada Byron' WHERE id = 1"))
        eraser.start()
        eventually(is_asking_again, lambda: f"the erasure waits for the writer: {seen}")
        clinic.past("UPDATE patients SET ward = 'B' WHERE id = 2")  # nobody is held up
        writer.commit()
    eraser.join()
    engine.dispose()
    told = canonical(clinic.state())
    assert "Ada" not in str(told)
    assert "Bob" in str(told)


def test_erasures_come_one_after_the_other(clinic: Clinic) -> None:
    """Each would see an image as it was before the other, where a row passed from one subject to the other."""
    clinic.run("INSERT INTO visits VALUES (1, 1, 'of one', 1)", "UPDATE visits SET patient_id = 2, note = 'of two'")
    engine = create_engine(clinic.url)
    with engine.connect() as other:
        other.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
        threads = [threading.Thread(target=clinic.bus.erase, args=(each,)) for each in (1, 2)]
        for each in threads:
            each.start()
        waiting = text(ERASER.format(granted="NOT l.granted"))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watcher:
            eventually(lambda: len(watcher.execute(waiting).all()) == 2, lambda: "both wait")
        other.commit()
    for each in threads:
        each.join()
    with engine.connect() as connection:
        left = text("SELECT before, after FROM actionbus_images WHERE concat(before, after) LIKE '%of %'")
        assert connection.execute(left).all() == []
    engine.dispose()
