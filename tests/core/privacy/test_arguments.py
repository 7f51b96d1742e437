"""Personal arguments: in clear to whoever may read, encrypted where they stand, unreadable once their subject is erased."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from actionbus import (
    Application,
    Arg,
    Bus,
    ConfigurationError,
    InvalidArguments,
    JournalUnavailable,
    Record,
)
from actionbus.core.values.payload import ERASED
from tests.core.privacy.actions.admit import Admit
from tests.core.privacy.clinic import Clinic

ADA = {
    "patient_id": 1,
    "name": "Ada Lovelace",
    "born": "1815-12-10",
    "phone": 5550199,
    "details": {"allergy": "penicillin"},
    "remark": "calls herself Ada Lovelace",
}
VALUES = ("Ada Lovelace", "1815-12-10", "5550199", "penicillin")


def admit(clinic: Clinic, function: Callable[[Any], Any] = lambda handler: None, **arguments: Any) -> UUID:
    Admit.function = function
    return clinic.bus.execute("admit", {**ADA, **arguments}).action_id


def stored(clinic: Clinic) -> str:
    """All records as they stand in the database."""
    with clinic.bus.engine.connect() as connection:
        return "\n".join(str(tuple(row)) for row in connection.execute(text("SELECT * FROM journal ORDER BY position")))


def records(clinic: Clinic, action_id: UUID) -> tuple[Record, Record]:
    submitted, outcome = clinic.bus.journal.history(action_id)
    return submitted, outcome


def test_they_are_encrypted_where_they_stand_and_clear_to_who_reads(clinic: Clinic) -> None:
    told = {
        "text": "hello Ada Lovelace!",
        "at": date(1815, 12, 10),
        "phone": 5550199,
        "n": 7,
        "json": '{"allergy": "penicillin"}',
        "Ada Lovelace": [1],
    }
    action = admit(clinic, lambda handler: told)
    assert not [value for value in VALUES if value in stored(clinic)]
    submitted, outcome = records(clinic, action)
    assert submitted.arguments == ADA
    assert outcome.arguments == ADA
    assert outcome.result == {**told, "at": "1815-12-10"}
    assert outcome.format == 1
    assert [each.arguments for each in clinic.bus.journal.read(action="admit")] == [ADA, ADA]


def test_callers_get_clear_results(clinic: Clinic) -> None:
    Admit.function = lambda handler: {"hello": handler.args.name}
    runner = clinic.bus.runner("ann")
    outcome = runner.execute("admit", ADA, idempotency_key="k")
    again = runner.execute("admit", ADA, idempotency_key="k")
    assert outcome.result == again.result == {"hello": "Ada Lovelace"}
    assert again.repeated


def test_after_erasing_nobody_can_read_them_and_no_record_has_changed(clinic: Clinic) -> None:
    mine = admit(clinic, lambda handler: {"hello": handler.args.name, "n": 7, "phone": 5550199})
    bobs = admit(clinic, lambda handler: {"hello": handler.args.name}, patient_id=2, name="Bob Smith")
    before = stored(clinic)
    assert clinic.bus.erase(1).keys == 1
    assert stored(clinic).startswith(before)
    submitted, outcome = records(clinic, mine)
    expected = {
        "patient_id": 1,
        "remark": "calls herself [erased]",
        **dict.fromkeys(("name", "born", "phone", "details"), ERASED),
    }
    assert submitted.arguments == outcome.arguments == expected
    assert outcome.result == {"hello": "[erased]", "n": 7, "phone": ERASED}
    assert records(clinic, bobs)[1].result == {"hello": "Bob Smith"}
    assert clinic.bus.erase(1).keys == 0


def test_a_later_action_of_the_subject_has_a_new_key(clinic: Clinic) -> None:
    first = admit(clinic)
    clinic.bus.erase(1)
    later = admit(clinic)
    assert records(clinic, first)[0].arguments["name"] == ERASED
    assert records(clinic, later)[0].arguments == ADA


def test_errors_calls_and_rejections_are_sealed_too(clinic: Clinic) -> None:
    def fail(handler: Any) -> None:
        raise RuntimeError(f"no bed for {handler.args.name}")

    with pytest.raises(RuntimeError, match="no bed for Ada Lovelace"):
        admit(clinic, fail)
    with pytest.raises(InvalidArguments):
        admit(clinic, phone="Ada Lovelace, 5550199")
    assert not [value for value in VALUES if value in stored(clinic)]
    failed = next(iter(clinic.bus.journal.read(status="failed")))
    assert failed.error is not None
    assert failed.error["message"] == "no bed for Ada Lovelace"
    clinic.bus.erase(1)
    failed = next(iter(clinic.bus.journal.read(status="failed")))
    assert failed.error is not None
    assert failed.error["message"] == "no bed for [erased]"


def test_nested_actions_have_keys_whatever_savepoints_were_rolled_back(clinic: Clinic) -> None:
    def fail(handler: Any) -> None:
        raise RuntimeError(f"no bed for {handler.args.name}")

    def outer(handler: Any) -> None:
        if handler.args.name == "Bob Smith":
            fail(handler)
        with pytest.raises(RuntimeError):
            handler.runner.execute("admit", {**ADA, "patient_id": 2, "name": "Bob Smith"})

    action = admit(clinic, outer)
    inner = [each for each in clinic.bus.journal.history(action) if each.cause_id == action]
    assert [each.arguments["name"] for each in inner] == ["Bob Smith", "Bob Smith"]
    assert inner[1].error is not None
    assert inner[1].error["message"] == "no bed for Bob Smith"
    assert not [value for value in (*VALUES, "Bob Smith") if value in stored(clinic)]
    assert clinic.bus.erase(2).keys == 1
    inner = [each for each in clinic.bus.journal.history(action) if each.cause_id == action]
    assert [each.arguments["name"] for each in inner] == [ERASED, ERASED]
    assert records_of(clinic, action)[0].arguments["name"] == "Ada Lovelace"


def records_of(clinic: Clinic, action: UUID) -> list[Record]:
    return [each for each in clinic.bus.journal.history(action) if each.action_id == action]


def test_a_subject_that_the_action_makes_is_found_in_its_result(clinic: Clinic) -> None:
    action = admit(clinic, lambda handler: {"patient_id": 77}, patient_id=None)
    nobodys = None
    with pytest.raises(ZeroDivisionError):
        admit(clinic, lambda handler: 1 / 0, patient_id=None)
    nobodys = next(iter(clinic.bus.journal.read(status="failed"))).action_id
    assert records(clinic, action)[0].arguments["name"] == "Ada Lovelace"
    assert clinic.bus.erase(77).keys == 1
    assert records(clinic, action)[0].arguments["name"] == ERASED
    assert records(clinic, nobodys)[0].arguments["name"] == "Ada Lovelace"
    clinic.bus.erase(f"action:{nobodys}")
    assert records(clinic, nobodys)[0].arguments["name"] == ERASED


def test_an_argument_may_name_its_subject_itself(clinic: Clinic) -> None:
    action = clinic.bus.execute("subscribe", {"email": "ada@example.com"}).action_id
    assert "ada@" not in stored(clinic)
    assert records(clinic, action)[0].arguments == {"email": "ada@example.com"}
    assert records(clinic, action)[1].arguments["friend"] == "Grace Hopper"
    clinic.bus.erase("ada@example.com")
    assert records(clinic, action)[0].arguments == {"email": ERASED}
    assert "ada@" not in stored(clinic)


def test_a_default_may_be_personal_and_name_the_subject(clinic: Clinic) -> None:
    action = clinic.bus.execute("subscribe").action_id
    given = {"email": "nobody@example.com", "friend_id": 4321, "friend": "Grace Hopper"}
    assert records(clinic, action)[0].arguments == {}
    assert records(clinic, action)[1].arguments == given
    assert "Hopper" not in stored(clinic)
    clinic.bus.erase(4321)
    assert records(clinic, action)[1].arguments == {**given, "friend": ERASED}
    clinic.bus.erase("nobody@example.com")
    assert records(clinic, action)[1].arguments == {**given, "friend": ERASED, "email": ERASED}


def test_a_key_that_was_used_is_compared_but_for_what_was_erased(clinic: Clinic) -> None:
    runner = clinic.bus.runner("ann")
    Admit.function = lambda handler: {"hello": handler.args.name}
    first = runner.execute("admit", ADA, idempotency_key="k")
    clinic.bus.erase(1)
    again = runner.execute("admit", ADA, idempotency_key="k")
    assert again.repeated
    assert again.action_id == first.action_id
    assert again.result == {"hello": "[erased]"}


def test_what_looks_encrypted_comes_back_as_it_was_sent(clinic: Clinic) -> None:
    forged = f"[personal:{'0' * 32}:{'A' * 60}]"
    plain = clinic.bus.execute("admit", {"name": "x", "patient_id": None, "remark": forged}).action_id
    for action in (admit(clinic, lambda handler: {"$personal": forged, "x": forged}, remark=forged), plain):
        assert records(clinic, action)[0].arguments["remark"] == forged
    remark = {"$personal": f"{'0' * 32}:{'A' * 60}", "x": forged}
    note = clinic.bus.execute("note", {"remark": {"a": remark}}).action_id
    for each in (*records(clinic, note), *clinic.bus.journal.read(action="note")):
        assert each.arguments == {"remark": {"a": remark}}
    result = next(r for r in clinic.bus.journal.read(action="admit", kind="outcome") if r.result).result
    assert result == {"$personal": forged, "x": forged}


def test_two_first_actions_of_a_subject_are_both_readable_and_erased_together(clinic: Clinic) -> None:
    Admit.function = lambda handler: None
    with ThreadPoolExecutor(8) as pool:
        ids = [each.action_id for each in pool.map(lambda n: clinic.bus.execute("admit", ADA), range(16))]
    assert all(records(clinic, each)[1].arguments == ADA for each in ids)
    clinic.bus.erase(1)
    assert all(records(clinic, each)[1].arguments["name"] == ERASED for each in ids)


def test_an_action_that_runs_when_its_subject_is_erased_has_unreadable_records(clinic: Clinic) -> None:
    """On SQLite an erasure waits for it; on PostgreSQL it does not, since it writes no table."""

    def meanwhile(handler: Any) -> None:
        if clinic.url.get_backend_name() == "postgresql":
            with ThreadPoolExecutor(1) as pool:
                pool.submit(clinic.bus.erase, 1).result()

    action = admit(clinic, meanwhile)
    if clinic.url.get_backend_name() == "sqlite":
        clinic.bus.erase(1)
    assert [each.arguments["name"] for each in records(clinic, action)] == [ERASED, ERASED]


def test_what_is_moved_elsewhere_is_refused(clinic: Clinic) -> None:
    action = admit(clinic)
    sealed = "REPLACE(CAST(arguments AS TEXT), 'name', 'remark')"
    kind = "json" if clinic.url.get_backend_name() == "postgresql" else "text"
    clinic.past(
        "INSERT INTO journal (action_id, kind, action, correlation_id, arguments, format) "
        f"SELECT '{UUID(int=7).hex}', kind, action, correlation_id, CAST({sealed} AS {kind}), format FROM journal "
        "WHERE kind = 'submitted'"
    )
    assert records(clinic, action)
    with pytest.raises(JournalUnavailable, match="was not written there"):
        clinic.bus.journal.get(UUID(int=7))


@pytest.mark.parametrize(
    ("arg", "why"),
    [
        (Arg(str, personal="patient_id", sensitive=True), "never kept"),
        (Arg(str, personal="name"), "names its subject itself"),
        (Arg(str, personal=7), "personal is True, or"),  # type: ignore[arg-type]
    ],
)
def test_a_declaration_that_cannot_be_kept_is_refused(arg: Arg, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Admit, "arguments", {**Admit.arguments, "name": arg})
    with pytest.raises(ConfigurationError, match=why):
        Bus(Application("clinic", actions=["tests.core.privacy.actions"]), "sqlite://")


def test_without_the_library_a_declaration_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actionbus.core.secrecy.personal.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'actionbus\[privacy\]'"):
        Bus(Application("clinic", actions=["tests.core.privacy.actions"]), "sqlite://")
