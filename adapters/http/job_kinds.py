"""Which jobs there are, and of which command each is. Used by `job_api`.

What is given is a mapping of texts, as a form or a JSON body has them. Each value is joined to its option, or stands
behind `--`, so that none is taken for an option.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from actionbus.adapters.http.refusals import Malformed
from actionbus.core import PermissionDenied
from actionbus.core.values.payload import unstorable_text

Given = Mapping[str, str]


class Command(NamedTuple):
    """What a job is to run: words behind `actionbus`, and what its options read from files."""

    words: list[str]
    files: Mapping[str, str] = {}


class Asker(NamedTuple):
    """Who begins a job: an operator, who names whom he acts for, or a caller of the application."""

    is_operator: bool
    actor: str | None


def _needed(given: Given, name: str) -> str:
    if not (found := given.get(name, "").strip()):
        raise Malformed(f"say {name}", {name: ["is needed"]})
    return found


def _options(given: Given, **options: str) -> list[str]:
    found = {option: given.get(name, "").strip() for option, name in options.items()}
    return [f"--{option}={value}" for option, value in found.items() if value]


def _by(asker: Asker, given: Given) -> list[str]:
    """Whose action it is: a caller's own, whatever he says."""
    actor = given.get("actor", "").strip() if asker.is_operator else asker.actor
    return [f"--actor={actor}"] if actor else []


def _bisect(asker: Asker, given: Given) -> Command:
    if not given.get("sql", "").strip():
        row = [_needed(given, "table"), _needed(given, "key"), f"{_needed(given, 'column')}={given.get('value', '')}"]
        return Command(["history", "bisect", "--json", *_options(given, bad="to"), "--", *row])
    if not asker.is_operator:
        raise PermissionDenied(
            "a query sees all of the database, so operators alone ask by one; ask by table, key, column and value"
        )
    return Command(["history", "bisect", "--json", *_options(given, good="from", bad="to"), "--", given["sql"].strip()])


def _verify(asker: Asker, given: Given) -> Command:
    options = _options(given, **{"from": "from", "to": "to", "action": "action"})
    return Command(["replay", "verify", "--json", *options])


def _what_if(asker: Asker, given: Given) -> Command:
    skipped = [f"--skip={each}" for each in given.get("skip", "").split()]
    edits = [f"--edit={each.strip()}" for each in given.get("edit", "").splitlines() if each.strip()]
    insert = given.get("insert", "").strip()
    if not skipped and not edits and not insert:
        raise Malformed("say what is to be skipped, edited or inserted", {"skip": ["is needed, or edit, or insert"]})
    return Command(["replay", "fork", "--json", *skipped, *edits], {"insert": insert} if insert else {})


def _preview(asker: Asker, given: Given) -> Command:
    name = _needed(given, "action")
    if name.startswith("-"):
        raise Malformed("an action's name is needed", {"action": ["is missing, or is not a name"]})
    return Command(["run", name, "--preview", "--json", *_by(asker, given), *_options(given, arguments="arguments")])


def _documents(asker: Asker, given: Given) -> Command:
    return Command(["history", "documents", "--json", *_options(given, at="at"), "--", _needed(given, "projection")])


def _revert(asker: Asker, given: Given) -> Command:
    return Command(["revert", "--json", *_by(asker, given), "--", _needed(given, "id")])


def _deciding(command: str) -> Callable[[Asker, Given], Command]:
    """What an operator decides about a queued action, which is an action on record itself."""
    return lambda asker, given: Command(["runs", command, *_by(asker, given), "--", _needed(given, "id")])


KINDS: Final[Mapping[str, Callable[[Asker, Given], Command]]] = {
    "bisect": _bisect,
    "verify": _verify,
    "what-if": _what_if,
    "documents": _documents,
    "preview": _preview,
    "revert": _revert,
    "cancel-run": _deciding("cancel"),
    "retry-run": _deciding("retry"),
    "run-now": _deciding("run-now"),
}
FIELDS: Final = (
    "kind",
    "table",
    "key",
    "column",
    "value",
    "sql",
    "from",
    "to",
    "action",
    "skip",
    "edit",
    "insert",
    "actor",
    "arguments",
    "id",
    "projection",
    "at",
)
"""What may be given."""


def command_of(asker: Asker, given: Given) -> tuple[str, Command]:
    """The kind of job that is asked for, and its command. Raises Malformed, PermissionDenied."""
    kind = given.get("kind", "")
    if kind not in KINDS:
        raise Malformed(f"there is no job of that kind; there are: {', '.join(KINDS)}", {"kind": ["is unknown"]})
    for name, value in given.items():
        if unstorable_text(value):  # of which no command line can be made
            raise Malformed(f"{name} has a character that no text of a command has", {name: ["is no text"]})
    return kind, KINDS[kind](asker, given)
