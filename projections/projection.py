"""Projection, the declaration of a read model: pure reducers that fold records into documents. Written by applications.

class Assets(Projection):
    mappings = {"properties": {"name": {"type": "text"}}}

    @on("add_asset", key="asset_id")
    def added(self, document, record):
        return {"name": record.arguments["name"]}
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple, TypeVar
from uuid import UUID

from actionbus.core import ConfigurationError, Record
from actionbus.core.declare.given import is_text, shown, texts
from actionbus.core.declare.mistyped import warn_of_mistyped
from actionbus.core.values.payload import unstorable_text
from actionbus.core.values.record import STATUSES as EVERY_STATUS
from actionbus.projections.fed import FedDeclaration, is_name
from actionbus.projections.fields import Fields
from actionbus.projections.index_settings import DURABILITY, flat
from actionbus.projections.purity import impurities

Key = str | Callable[[Record], Any]
STATUSES: Final = frozenset(EVERY_STATUS)
RESERVED: Final = "actionbus"
"""The field of a stored document that is ours: the position of the last record folded in, and when it was deleted."""

_KEY_BYTES = 512
"""Bytes of the longest key: the length of an `_id` that Elasticsearch takes."""
SHORT_KEY = _KEY_BYTES // 4
"""Characters of a key that is short enough in any encoding."""
_Function = TypeVar("_Function", bound=Callable[..., Any])


def is_reserved(name: object) -> bool:
    """Whether a field is `RESERVED`, or in it: Elasticsearch takes a dot in a name for a field within."""
    return name == RESERVED or str(name).startswith(f"{RESERVED}.")


class Rule(NamedTuple):
    """One `@on`: which records a reducer wants, and of which documents."""

    actions: tuple[str, ...]
    key: Key
    statuses: frozenset[str]


class Reducer(NamedTuple):
    """A rule with the method that it decorates."""

    rule: Rule
    name: str
    function: Callable[[Any, Any, Record], Any]


def on(
    action: str | Sequence[str], *, key: Key, statuses: Iterable[str] = ("succeeded",)
) -> Callable[[_Function], _Function]:
    """Make a method the reducer of an action's outcomes, of several, or of all (`"*"`).

    `key` names the document: a name looked up in the result and then in the arguments, or a callable of the record
    that gives one key or several. The method gets the document (None if there is none) and the record, and returns
    the new document; None deletes it, the same one unchanged writes nothing. Raises ConfigurationError.
    """
    problems: list[str] = []
    actions = texts("action", action, "names of actions", problems)
    wanted_statuses = texts("statuses", statuses, "statuses of outcomes", problems)
    if not is_text(key) and not callable(key):
        problems.append(f"key: expected a name, or a function of the record, not {shown(key)}")
    if problems:
        raise ConfigurationError([f"@on: {problem}" for problem in problems])
    rule = Rule(actions, key, frozenset(wanted_statuses))

    def mark(function: _Function) -> _Function:
        rules: list[Rule] = getattr(function, "_projection_rules", [])
        function._projection_rules = [rule, *rules]  # type: ignore[attr-defined]
        return function

    return mark


class Projection(FedDeclaration):
    """Base of read models. The class name in snake_case is the alias of the index, unless `name` says otherwise."""

    version: ClassVar[int] = 1
    """Raise it when reducers or mappings change: then the index must be rebuilt."""
    mappings: ClassVar[Mapping[str, Any]] = {}
    """Elasticsearch's mappings; other stores take from it what can be searched as text."""
    settings: ClassVar[Mapping[str, Any]] = {}
    """Elasticsearch's index settings."""
    reducers: ClassVar[tuple[Reducer, ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.reducers = tuple(
            Reducer(rule, name, function)
            for name, function in inspect.getmembers(cls, inspect.isfunction)
            for rule in getattr(function, "_projection_rules", ())
        )

    @classmethod
    def problems(cls, actions: Collection[str]) -> list[str]:
        """What is wrong with the declaration."""
        warn_of_mistyped(cls, Projection, [reducer.name for reducer in cls.reducers])
        where = f"the projection {cls.__module__}.{cls.__qualname__}"
        found = [] if is_name(cls.name) else [f"{where} has the name {cls.name!r}; use a-z, 0-9 and _"]
        if type(cls.version) is not int or cls.version < 1:
            found.append(f"{where} has the version {cls.version!r}; it must be a whole number from 1")
        if not cls.reducers:
            found.append(f"{where} has no reducer; mark its methods with @on")
        for what in ("mappings", "settings"):
            if not isinstance(given := getattr(cls, what), Mapping):
                found.append(f"{where}: `{what}` must be a dict, as Elasticsearch takes it, not {shown(given)}")
        if isinstance(cls.mappings, Mapping) and any(map(is_reserved, cls.mappings.get("properties", {}))):
            found.append(f"{where} maps the field {RESERVED!r}, which is kept for positions")
        if (
            isinstance(cls.settings, Mapping)
            and str(flat(cls.settings).get(DURABILITY, "request")).lower() != "request"
        ):
            found.append(f"{where} sets {DURABILITY} to what may lose acknowledged documents in a crash; leave it out")
        for reducer in cls.reducers:
            found += [f"{where}: {reducer.name} {why}" for why in _wrong(reducer, actions)]
        return found

    @classmethod
    def wanted_actions(cls) -> list[str] | None:
        """The names of the actions it has reducers for; None for all."""
        named = {action for reducer in cls.reducers for action in reducer.rule.actions}
        return None if "*" in named else sorted(named)

    @classmethod
    def refuse_undeclared(cls, fields: Iterable[str]) -> None:
        """Raise QueryRefused unless the mapping declares them all, as fields that are kept as they are."""
        Fields(cls.mappings).refuse_undeclared(cls.name, fields)


def _wrong(reducer: Reducer, actions: Collection[str]) -> Iterable[str]:
    for action in reducer.rule.actions:
        if action != "*" and action not in actions:
            yield f"folds the action {action!r}, which there is not"
    for status in sorted(reducer.rule.statuses - STATUSES):
        yield f"wants the status {status!r}; there are: {', '.join(sorted(STATUSES))}"
    taken = len(inspect.signature(reducer.function).parameters)
    if taken != 3:
        yield f"takes {taken} parameters; it must take self, document and record"
    for why in dict.fromkeys(impurities(reducer.function)):
        yield f"is not pure: it {why}"
    if callable(reducer.rule.key):
        for why in dict.fromkeys(impurities(reducer.rule.key)):
            yield f"has a key that is not pure: it {why}"


def keys_of(rule: Rule, record: Record) -> list[str]:
    """The keys of the documents that a record is about. Raises ValueError if there is none where one was named."""
    key = rule.key
    return as_keys(_looked_up(key, record) if isinstance(key, str) else key(record))


def finder(rule: Rule) -> Callable[[Record], Any]:
    """What finds in a record what a rule takes for the key, or keys."""
    key = rule.key
    return partial(_looked_up, key) if isinstance(key, str) else key


def as_keys(found: Any) -> list[str]:
    """The same as keys. Raises ValueError for what is none."""
    if type(found) is str and 0 < len(found) <= SHORT_KEY and found.isprintable():
        return [found]
    if found is None:
        return []
    if not isinstance(found, (list, tuple, set, frozenset)):
        return [_key_text(found)]
    return list(dict.fromkeys(_key_text(each) for each in found))


def _looked_up(name: str, record: Record) -> Any:
    result = record.result
    if isinstance(result, dict) and (found := result.get(name)) is not None:
        return found
    arguments = record.arguments
    if isinstance(arguments, dict) and (found := arguments.get(name)) is not None:
        return found
    raise ValueError(f"neither result nor arguments of {record.action!r} have {name!r}, the document's key")


def _key_text(key: Any) -> str:
    if not isinstance(key, (str, int, UUID)) or isinstance(key, bool):
        raise ValueError(f"a document's key must be text, a whole number or a UUID, not {type(key).__name__}")
    text = str(key)
    if why := unstorable_text(text):
        raise ValueError(f"a document's key {why}: {text[:100]!r}")
    if not 0 < len(text.encode()) <= _KEY_BYTES:
        raise ValueError(f"a document's key must have 1 to {_KEY_BYTES} bytes, not {len(text.encode())}")
    return text
