"""What was erased is nowhere in the database's files any more, once these are written anew: docs/privacy.md says how."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL

from actionbus.core.values.payload import ERASED
from tests.core.privacy.actions.admit import Admit
from tests.core.privacy.clinic import Clinic

NAME = 'Zoë (Quux) "Ärzt", 4711'
NUMBER = 5550199187
OTHER = "Bob Böhmermann"


def written(handler: Any) -> Any:
    """What an action does with a name: a row, a result that quotes it, an error inside."""
    values = {"i": handler.args.patient_id, "n": handler.args.name, "b": handler.args.phone}
    handler.session.execute(text("INSERT INTO patients (id, name, born) VALUES (:i, :n, NULL)"), values)
    handler.session.execute(text("INSERT INTO visits VALUES (:i, :i, :n || ' has a cold', 1)"), values)
    handler.session.execute(text("UPDATE patients SET ward = 'B' WHERE id = :i"), values)
    return {
        "name": handler.args.name,
        "json": json.dumps(handler.args.name),
        "hex": handler.args.name.encode().hex(),
        "base64": base64.b64encode(handler.args.name.encode()).decode(),
        "phone": handler.args.phone,
    }


def failing(handler: Any) -> None:
    raise RuntimeError(f"{handler.args.name!r} has the phone {handler.args.phone}")


def spelled(value: str) -> dict[str, bytes]:
    """In every form in which something of ours or of the database writes a value."""
    data = value.encode()
    return {
        "text": data,
        "latin-1": value.encode("latin-1"),
        "UTF-16": value.encode("utf-16-le"),
        "UTF-16, big endian": value.encode("utf-16-be"),
        "hex": data.hex().encode(),
        "HEX": data.hex().upper().encode(),
        "JSON": json.dumps(value)[1:-1].encode(),
        "JSON in JSON": json.dumps(json.dumps(value))[3:-3].encode(),
        "row": value.replace('"', '""').encode(),
        "base64": base64.b64encode(data)[:-4],
        "a word of it": value.split()[0].encode(),
    }


def files_of_sqlite(url: URL) -> bytes:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("VACUUM")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    path = Path(str(url.database))
    return b"".join(each.read_bytes() for each in sorted(path.parent.glob(f"{path.name}*")))


def files_of_postgresql(url: URL) -> bytes:
    """Of this database, all but the write-ahead log."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE")  # the planner keeps samples of values, until it takes new ones
        connection.exec_driver_sql("VACUUM FULL")
        connection.exec_driver_sql("CHECKPOINT")
        folder = "'base/' || (SELECT oid FROM pg_database WHERE datname = current_database())"
        found = connection.exec_driver_sql(
            f"SELECT pg_read_binary_file({folder} || '/' || f) FROM pg_ls_dir({folder}) f ORDER BY f"
        )
        held = b"".join(bytes(each) for (each,) in found)
    engine.dispose()
    return held


def files_of(clinic: Clinic) -> bytes:
    read = files_of_sqlite if clinic.url.get_backend_name() == "sqlite" else files_of_postgresql
    return read(clinic.url)


def test_the_value_is_nowhere_in_the_files(clinic: Clinic) -> None:
    Admit.function = written
    for patient, name in ((1, NAME), (2, OTHER)):
        clinic.bus.execute("admit", {"patient_id": patient, "name": name, "phone": NUMBER + patient})
    clinic.past("UPDATE patients SET ward = 'C'")
    Admit.function = failing
    with pytest.raises(RuntimeError):
        clinic.bus.execute("admit", {"patient_id": 1, "name": NAME, "phone": NUMBER + 1})
    with clinic.bus.engine.connect() as connection:
        secret = connection.execute(text("SELECT secret FROM actionbus_subject_keys WHERE subject = '1'")).scalar_one()
    before = files_of(clinic)
    assert spelled(NAME)["text"] in before  # the application's own row, and images
    assert secret.encode() in before
    assert str(NUMBER + 1).encode() not in before  # encrypted in the journal, and in no table
    clinic.run("DELETE FROM visits WHERE patient_id = 1", "DELETE FROM patients WHERE id = 1")
    erasure = clinic.bus.erase(1)
    assert erasure.standing == {}
    clinic.bus.close()
    left = files_of(clinic)
    forms = {**spelled(NAME), "phone": str(NUMBER + 1).encode(), "key": secret.encode()}
    assert [form for form, data in forms.items() if data in left] == []
    assert OTHER.encode() in left
    read = [each.arguments["name"] for each in clinic.bus.journal.read(action="admit")]
    assert read == [ERASED, ERASED, OTHER, OTHER, ERASED, ERASED]
    clinic.bus.close()
