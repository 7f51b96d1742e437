"""Secrets that are no text, are handed out by `secrets`, or stand elsewhere in what was sent."""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest

from actionbus import Arg, Bus
from tests.conftest import BusFactory
from tests.core.secrecy.spilling import ENCODINGS, HARD, _base64, _vaulted, assert_without, run, told
from tests.shop.actions.call_back import CallBack

VALUES: list[tuple[Any, Any, list[str]]] = [
    (datetime, "2024-03-05T01:02:03Z", ["2024-03-05T01:02:03", "2024-03-05 01:02:03", "20240305T010203", "1709600523"]),
    (
        datetime,
        "2024-03-05T01:02:03.250000+02:00",
        ["2024-03-05T01:02:03", "2024-03-04T23:02:03", "04 Mar 2024 23:02:03"],
    ),
    (date, "1980-04-07", ["1980-04-07", "19800407", "07.04.1980", "04/07/1980"]),
    (timedelta, "PT2600026H", ["PT2600026H", "PT9360093600S", "P108334DT10H", "108334 days, 10:00:00", "9360093600"]),
    (
        UUID,
        "9a3b6c1e-7b52-4b8e-9d61-0f7d3c2b1a55",
        [
            "9a3b6c1e-7b52-4b8e-9d61-0f7d3c2b1a55",
            "9a3b6c1e7b524b8e9d610f7d3c2b1a55",
            "9A3B6C1E-7B52-4B8E-9D61-0F7D3C2B1A55",
            base64.b64encode(UUID("9a3b6c1e-7b52-4b8e-9d61-0f7d3c2b1a55").bytes).decode(),
            str(UUID("9a3b6c1e-7b52-4b8e-9d61-0f7d3c2b1a55").int),
        ],
    ),
    (Decimal, "918273.50", ["918273.50", "918273.5"]),
    (int, 918273645, ["918273645", "918,273,645"]),
]


class Colour(Enum):
    """Has names and values that both tell."""

    VERMILION = "zinnober"


def utc(moment: datetime) -> datetime:
    """The moment as a program would show it."""
    return moment.astimezone(UTC)


@pytest.mark.parametrize(("kind", "sent", "spellings"), VALUES)
@pytest.mark.parametrize("place", ["result", "call", "error", "log", "row"])
def test_a_secret_that_is_no_text_is_nowhere_in_its_usual_forms(
    make_bus: BusFactory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: Any,
    sent: Any,
    spellings: list[str],
    place: str,
) -> None:
    bus = _vaulted(make_bus, monkeypatch, kind)
    for made in (str, repr, lambda value: " ".join(spellings), lambda value: _base64(spellings[0], "ann:")):
        everything = run(bus, monkeypatch, caplog, place, made, sent)
        assert_without(everything, *spellings, _base64(spellings[0], "ann:"))


@pytest.mark.parametrize(("kind", "sent", "spellings"), VALUES)
def test_nor_where_our_own_json_has_it(
    make_bus: BusFactory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: Any,
    sent: Any,
    spellings: list[str],
) -> None:
    bus = _vaulted(make_bus, monkeypatch, kind)

    def do(handler: Any) -> Any:
        value = handler.args.password
        handler.mailer.store(value, deep=[value, str(value).encode()])
        if isinstance(value, datetime):
            handler.mailer.store(utc(value), deep=value.astimezone(timezone(timedelta(hours=5))))
        if isinstance(value, UUID):
            handler.mailer.store(value.bytes, deep=[value.hex, value.urn])
        return {"value": value, "list": [value]}

    monkeypatch.setattr(CallBack, "function", do)
    everything = told(bus, {"password": sent}, caplog)
    assert_without(everything, *(each for each in spellings if each != "2024-03-05T01:02:03"))
    assert '"value":"[secret]"' in everything.replace(" ", "")


def test_an_enum_is_hidden_by_name_and_value(
    make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bus = _vaulted(make_bus, monkeypatch, Colour)
    monkeypatch.setattr(
        CallBack, "function", lambda h: [h.args.password, repr(h.args.password), h.mailer.store(h.args.password)]
    )
    for sent in ("VERMILION", "zinnober"):
        assert_without(told(bus, {"password": sent}, caplog).replace("required", ""), "VERMILION", "zinnober")


@pytest.mark.parametrize(
    "spelled",
    [
        lambda token: base64.b64encode(token).decode(),
        lambda token: base64.urlsafe_b64encode(token).decode().rstrip("="),
        lambda token: base64.b64encode(b"user:" + token).decode(),
        bytes.hex,
        lambda token: token.hex().upper(),
        repr,
        lambda token: urllib.parse.quote(token),
        lambda token: token.decode("latin-1"),
    ],
)
def test_bytes_handed_out_by_secrets_are_nowhere(
    vaulted: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, spelled: Callable[[bytes], str]
) -> None:
    seen: list[bytes] = []

    def do(handler: Any) -> Any:
        token = handler.secrets.token_bytes()
        seen.append(token)
        handler.logger.warning("token %s", spelled(token))
        return [spelled(token), handler.mailer.store(token, deep=spelled(token)) and None]

    monkeypatch.setattr(CallBack, "function", do)
    for _ in range(20):
        everything = told(vaulted, {"password": "irrelevant"}, caplog)
        assert_without(everything, spelled(seen[-1]), base64.b64encode(seen[-1]).decode(), seen[-1].hex())


def test_the_same_value_elsewhere_in_what_was_sent(
    vaulted: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[Any] = []
    monkeypatch.setattr(CallBack, "function", lambda h: got.append((h.args.note, h.context["session"])))
    everything = told(
        vaulted, {"note": f"my password is {HARD}", "password": HARD}, caplog, context={"session": HARD, "n": 1}
    )
    assert_without(everything, *(encode(HARD) for encode in ENCODINGS.values()))
    assert got == [(f"my password is {HARD}", HARD)], "the handler has what was sent"
    submitted = vaulted.journal.at(1)
    assert submitted is not None
    assert submitted.arguments["note"] == "my password is [secret]"
    assert submitted.context == {"session": "[secret]", "n": 1}


@pytest.mark.parametrize("spelling", ["plain", "json", "url", "hex"])
def test_nor_in_the_name_of_what_was_sent(
    vaulted: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, spelling: str
) -> None:
    """Of an argument that nobody declared, or of something in the context, at any depth; declared names stay."""
    monkeypatch.setattr(CallBack, "function", lambda h: None)
    name = f"x={ENCODINGS[spelling](HARD)}" if spelling in ENCODINGS else f"x={HARD}"
    for sent in ({name: 1}, {"note": "n", name: {name: [1]}}):
        everything = told(vaulted, {"password": HARD, **sent}, caplog, context={name: 1, "in": [{name: name}]})
        assert_without(everything, *(encode(HARD) for encode in ENCODINGS.values()))
    told(vaulted, {"password": "note", "note": "n"}, caplog)
    assert vaulted.journal.tail(1)[0].arguments["note"] == "n"


def test_a_number_of_few_digits_elsewhere_is_a_coincidence(
    make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        CallBack, "arguments", {"pin": Arg(int, sensitive=True), "count": Arg(int), "other": Arg(int), "text": Arg(str)}
    )
    monkeypatch.setattr(CallBack, "function", lambda handler: "11 of 2024 are 1")
    bus = make_bus()
    outcome = bus.execute("call_back", {"pin": 1, "count": 1, "other": 11, "text": "a 1 in 2021"})
    record = bus.journal.outcome(outcome.action_id)
    assert record is not None
    redacted = {"$redacted": True}
    assert record.arguments == {"pin": redacted, "count": 1, "other": 11, "text": "a [secret] in 2021"}
    assert outcome.result == "11 of 2024 are [secret]"
    bus.execute("call_back", {"pin": 918273, "count": 918273, "other": 1, "text": ""})
    assert bus.journal.tail(1)[0].arguments["count"] == redacted
