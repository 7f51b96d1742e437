"""Tables that fit a terminal: what is whole is never cut, what is left out is named, and a pipe gets everything."""

from __future__ import annotations

import pytest

from actionbus.adapters.cli.printing import print_table

ID = "01a22a2a-c71b-7b7e-a184-111f99e1193c"
COLUMNS = ("name", "told", "by", "id", "seen")
ROWS = [("first", "word " * 20, "somebody with a name", ID, "2026-11-30 01:56:16"), ("second", "", "", ID, "")]


def printed(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    print_table(COLUMNS, ROWS, whole=("name", "id"), first_to_go=("seen",))
    return capsys.readouterr()


@pytest.mark.parametrize("width", [*range(20, 200, 9), 250])
def test_what_is_there_is_shown_whole_or_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    table, note = printed(capsys)
    header = table.splitlines()[0].split()
    assert "first" in table
    assert ID in table
    for name in COLUMNS:
        assert (name in header) != (name in note.partition("; ")[0].split("for ")[-1].split(", "))
    assert ("2026-11-30 01:56:16" in table) == ("seen" in header)
    assert "seen" not in header or "word " * 19 in table, "it goes before anything is cut"
    if "told" in header:
        assert "word word" in table, "what is shown of a long value says something"
    if note or width > 160:
        assert max(map(len, table.splitlines())) <= max(width, len("second  ") + len(ID) + 2)


def test_a_pipe_gets_everything(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    table, note = printed(capsys)
    assert all(cell.strip() in table for row in ROWS for cell in row)
    assert note == ""


@pytest.mark.parametrize("width", [*range(20, 200, 9), 250])
def test_what_one_looks_for_is_whole_whatever_the_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """In its column where there is room for all of it, else under its row."""
    monkeypatch.setenv("COLUMNS", str(width))
    told = "it failed since the other side did not answer in 30 s, and will be asked again"
    rows = [("failed", ID, "mail", told), ("succeeded", ID, "mail", ""), ("denied", ID, "media", "no right")]
    print_table(("status", "id", "queue", "problem"), rows, whole=("status", "id"), below="problem")
    table, note = capsys.readouterr()
    assert told in " ".join(table.split()), table
    assert "no right" in " ".join(table.split())
    assert "problem" not in note
    assert table.count(ID) == 3
    lines = table.splitlines()
    assert lines[0].startswith("status")
    assert len(lines) == 4 or "problem" not in lines[0]
    if width > 60:
        assert max(map(len, lines)) <= width


def test_a_pipe_has_it_in_its_column(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table(("id", "problem"), [(ID, "word " * 100)], whole=("id",), below="problem")
    assert len(capsys.readouterr().out.splitlines()) == 2
