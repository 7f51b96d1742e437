"""`runner.preview`: what an action would do, told from its images, and nothing of it stays."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from actionbus import Broker, Bus, JournalUnavailable, Message, Middleware, Misuse, Preview, outside
from tests.conftest import BusFactory, elsewhere
from tests.shop.actions.call_back import CallBack
from tests.shop.app import Account, Mailer, checkpoint, make_application, repo


class Waiting(Broker):
    """Counts what it is given."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def publish(self, message: Message) -> None:
        """Count it."""
        self.messages.append(message)


def told(changes: list[Any]) -> list[Any]:
    """What changes say of rows, and whose they are, in no order: none is promised for generated keys."""
    return sorted(
        (c.who.source.action, c.table.rpartition(".")[2], c.operation, repr(c.before), repr(c.after)) for c in changes
    )


def everything(bus: Bus) -> Any:
    """All that a preview must leave as it is."""
    with bus.engine.connect() as connection:
        counts = [
            connection.execute(text(f"SELECT count(*) FROM {each}")).scalar()
            for each in ("journal", "actionbus_images", "actionbus_runs", "entries")
        ]
        return counts, connection.execute(text("SELECT id, name, balance FROM accounts ORDER BY id")).all()


def test_a_preview_shows_what_the_action_then_does_and_leaves_nothing(shop: Bus) -> None:
    runner = shop.runner(actor="ana")
    before = everything(shop)
    seen = runner.preview("transfer", {"source": 1, "target": 2, "amount": 30})
    assert everything(shop) == before
    done = runner.execute("transfer", {"source": 1, "target": 2, "amount": 30})
    assert (seen.outcome.status, seen.outcome.result, seen.outcome.position) == (done.status, done.result, 0)
    real = [c for r in shop.journal.read(before[0][0]) if r.kind == "outcome" for c in r.touched]
    # A sequence gives no number twice, so the keys of entries are others.
    keyless = [each for each in told(seen.changes) if each[1] != "entries"]
    assert keyless == [each for each in told(real) if each[1] != "entries"]
    assert len(seen.changes) == len(real) == 4
    assert {c.who.source.action for c in seen.changes} == {"withdraw", "deposit"}


@pytest.mark.parametrize(
    ("arguments", "actor", "status"),
    [
        ({"id": 1, "amount": 500}, None, "failed"),
        ({"id": 1}, None, "rejected"),
        ({"id": 1, "amount": "x"}, None, "rejected"),
    ],
)
def test_what_would_not_succeed_is_an_outcome_too(shop: Bus, arguments: Any, actor: Any, status: str) -> None:
    before = everything(shop)
    seen = shop.runner(actor).preview("withdraw", arguments)
    assert (seen.outcome.status, seen.changes) == (status, [])
    assert seen.outcome.error is not None
    assert everything(shop) == before


def test_who_may_not_run_it_may_not_preview_it(shop: Bus) -> None:
    assert shop.runner("mallory").preview("deposit", {"id": 1, "amount": 1}).outcome.status == "denied"
    assert shop.runner("ana").preview("no_such_action").outcome.status == "rejected"


def test_outside_calls_are_refused_or_answered_as_declared(make_bus: BusFactory) -> None:
    class Quiet:
        def send(self, to: str, text: str) -> str:
            return f"would go to {to}"

    sent = len(Mailer.sent)
    dependencies = {"repo": repo, "checkpoint": checkpoint}
    plain = make_bus(make_application(dependencies=dependencies | {"mailer": outside(Mailer)}))
    plain.create()
    plain.execute("open_account", {"id": 1, "name": "one"})
    refused = plain.runner().preview("notify", {"to": "bo", "account": 1})
    assert (refused.outcome.status, refused.refused) == ("failed", ("mailer.send(…)",))
    assert "outside(…, preview=…)" in refused.outcome.error["message"]  # type: ignore[index]
    fake = plain.runner(overrides={"mailer": Quiet()}).preview("notify", {"to": "bo", "account": 1})
    assert fake.outcome.result == {"receipt": "would go to bo"}
    declared = make_bus(make_application(dependencies=dependencies | {"mailer": outside(Mailer, preview=Quiet)}))
    seen = declared.runner().preview("notify", {"to": "bo", "account": 1})
    assert seen.outcome.result == {"receipt": "would go to bo"}
    assert len(seen.changes) == 2
    assert len(Mailer.sent) == sent


@pytest.mark.parametrize(
    "asked",
    [
        lambda m: bool(m.enabled),
        lambda m: m.limit > 3,
        lambda m: m["key"],
        lambda m: list(m.items),
        lambda m: str(m.name),
        lambda m: m.name == "x",
        lambda m: f"{m.name}",
        lambda m: len(m),
        lambda m: setattr(m, "a", 1),
        lambda m: {m: 1},
        lambda m: m.price + 1,
        lambda m: 1 + m.price,
        lambda m: "a" in m,
        lambda m: m.__enter__(),
    ],
)
def test_nothing_is_made_up_of_an_outside_dependency(make_sqlite_bus: BusFactory, asked: Any) -> None:
    def function(handler: Any) -> str:
        try:
            asked(handler.mailer)
        except Exception:
            return "swallowed"
        return "answered"

    CallBack.function = function
    seen = make_sqlite_bus().runner().preview("call_back")
    assert seen.outcome.result == "swallowed"
    assert len(seen.refused) == 1


def test_what_would_be_queued_is_told_and_not_sent(make_bus: BusFactory) -> None:
    broker = Waiting()
    bus = make_bus(broker=broker)
    CallBack.function = lambda handler: handler.runner.execute_async("open_account", {"id": 1, "name": "one"}) and None
    before = everything(bus)
    seen = bus.runner().preview("call_back")
    assert seen.queued == (("open_account", {"id": 1, "name": "one"}),)
    assert not broker.messages
    assert everything(bus) == before


def test_a_key_that_waits_for_its_first_use_stays_unused(shop: Bus) -> None:
    shop.runner().preview("deposit", {"id": 1, "amount": 5})
    first = shop.execute("deposit", {"id": 1, "amount": 5}, idempotency_key="k")
    assert not first.repeated


def test_nested_actions_that_were_rolled_back_have_no_changes(shop: Bus) -> None:
    def function(handler: Any) -> None:
        with handler.session.begin_nested() as point:
            handler.runner.execute("deposit", {"id": 1, "amount": 5})
            point.rollback()
        handler.runner.execute("deposit", {"id": 2, "amount": 7})
        handler.session.execute(text("UPDATE accounts SET name = 'raw' WHERE id = 2"))

    CallBack.function = function
    seen = shop.runner().preview("call_back")
    assert [(c.who.source.action, c.table.rpartition(".")[2]) for c in seen.changes if c.who.source] == [
        ("deposit", "accounts"),
        ("deposit", "entries"),
        ("call_back", "accounts"),
    ] or sorted(c.who.source.action for c in seen.changes if c.who.source) == ["call_back", "deposit", "deposit"]


def test_what_waits_for_commit_is_done_and_shown(make_postgres_bus: BusFactory) -> None:
    bus = make_postgres_bus()
    bus.create()
    with bus.engine.begin() as connection:
        connection.execute(
            text(
                "ALTER TABLE entries ADD CONSTRAINT late FOREIGN KEY (account_id) REFERENCES accounts "
                "DEFERRABLE INITIALLY DEFERRED"
            )
        )
        connection.execute(text("ALTER TABLE entries DROP CONSTRAINT entries_account_id_fkey"))
    CallBack.function = lambda handler: handler.session.execute(text("INSERT INTO entries VALUES (9, 77, 1)")) and None
    seen = bus.runner().preview("call_back")
    assert (seen.outcome.status, seen.changes) == ("failed", [])
    assert seen.outcome.error["constraint"] == "late"  # type: ignore[index]


def test_tables_that_are_not_recorded_are_named(make_bus: BusFactory) -> None:
    bus = make_bus()
    seen = bus.runner().preview("open_account", {"id": 1, "name": "one"})
    assert (seen.outcome.status, seen.changes) == ("succeeded", [])
    assert {each.rpartition(".")[2] for each in seen.unrecorded} == {"accounts", "entries"}


def test_a_handler_that_commits_is_told_so(shop: Bus) -> None:
    def function(handler: Any) -> None:
        handler.session.get(Account, 1).balance = 5
        handler.session.flush()
        handler.session.connection().exec_driver_sql("COMMIT")

    CallBack.function = function
    seen = shop.runner().preview("call_back")
    assert seen.outcome.status == "failed"
    assert everything(shop)[1][0].balance == 100


def test_inside_a_handler_nothing_is_previewed(shop: Bus) -> None:
    CallBack.function = lambda handler: shop.runner().preview("deposit", {"id": 1, "amount": 1}) and None
    with pytest.raises(Misuse, match=r"self\.runner"):
        shop.execute("call_back")


def test_middleware_is_told_the_mode(make_bus: BusFactory) -> None:
    class Watching(Middleware):
        seen: list[tuple[str, str]] = []

        def around_call(self, call: Any, proceed: Any) -> Any:
            self.seen.append(("call", call.mode))
            return proceed()

        def around_execution(self, call: Any, session: Any, proceed: Any) -> None:
            self.seen.append(("execution", call.mode))
            proceed()

    bus = make_bus(middleware=[Watching()])
    bus.runner().preview("open_account", {"id": 1, "name": "one"})
    assert Watching.seen == [("call", "preview"), ("execution", "preview")]


def test_others_may_write_as_soon_as_it_is_over(shop: Bus) -> None:
    seen: Preview = shop.runner().preview("deposit", {"id": 1, "amount": 5})
    assert seen.outcome.status == "succeeded"
    assert elsewhere(lambda: shop.execute("deposit", {"id": 1, "amount": 5})).result == {"balance": 105}


def test_a_role_that_may_not_read_images_is_told_what_to_grant(make_postgres_bus: BusFactory) -> None:
    bus = make_postgres_bus()
    bus.create()
    role = f"previewer_{bus.engine.url.database}"
    with bus.engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'p'")
        connection.exec_driver_sql(f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{role}"')
        connection.exec_driver_sql(f'GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO "{role}"')
        connection.exec_driver_sql(f'REVOKE SELECT ON actionbus_images FROM "{role}"')
    try:
        with Bus(make_application(), bus.engine.url.set(username=role, password="p")) as theirs:
            with pytest.raises(JournalUnavailable, match="GRANT SELECT ON actionbus_shapes, actionbus_images"):
                theirs.runner().preview("open_account", {"id": 1, "name": "one"})
            assert theirs.execute("open_account", {"id": 1, "name": "one"}).status == "succeeded"
    finally:
        with bus.engine.begin() as connection:
            connection.exec_driver_sql(f'DROP OWNED BY "{role}"')
            connection.exec_driver_sql(f'DROP ROLE "{role}"')


def test_where_nothing_can_be_written_it_is_refused_and_no_failure_is_told(make_sqlite_bus: BusFactory) -> None:
    """A standby: `storage.test_other_servers`; a role that only reads: `storage.test_hostile_defaults`."""
    there = f"sqlite:///file:{make_sqlite_bus().engine.url.database}?mode=ro&uri=true"
    with Bus(make_application(), there) as theirs:
        for name, arguments in (("deposit", {"id": 1, "amount": 5}), ("no_such_action", {})):
            with pytest.raises(JournalUnavailable, match="not open for writing"):
                theirs.runner().preview(name, arguments)
