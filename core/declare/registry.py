"""Finds an application's handlers and checks its whole declaration; built once, when the Bus is."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, ModuleType

from marshmallow import Schema

from actionbus.core.declare.application import Application
from actionbus.core.declare.arg import Arg, build_schema
from actionbus.core.declare.asynchronous import async_problem
from actionbus.core.declare.dependencies import Plan, plan_for, read_providers
from actionbus.core.declare.handler import ActionHandler, Arguments
from actionbus.core.declare.personal import problems_of
from actionbus.core.errors import ConfigurationError, UnknownAction
from actionbus.core.secrecy.personal import INSTALL, can_encrypt
from actionbus.core.values.payload import printable_text

NAME = re.compile(r"[a-z][a-z0-9_]{0,99}", re.ASCII)
"""What an action may be called. Nothing else is ever looked up, let alone imported."""

_QUEUE = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,99}", re.ASCII)
ISOLATION_LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
_RESERVED = {name for name in dir(ActionHandler) if not name.startswith("__")} | {"args"}
_IN_ARGS = {name for name in dir(Arguments) if not name.startswith("__")}


class _Asking(ActionHandler):
    """Has no arguments and does nothing."""


@dataclass(frozen=True, slots=True)
class Action:
    """A handler class with everything derived from it once."""

    name: str
    handler: type[ActionHandler]
    schema: Schema
    plan: Plan
    sensitive: frozenset[str]
    isolation: str
    personal: Mapping[str, bool | str] = field(default_factory=lambda: MappingProxyType({}))
    """By argument, which other one names the subject, or that it does itself."""

    @property
    def for_operators(self) -> bool:
        """Whether it is no part of the everyday catalogue; see `ActionHandler.for_operators`."""
        return self.handler.for_operators


class Registry:
    """All actions of an application by name."""

    def __init__(self, application: Application) -> None:
        problems: list[str] = []
        self.providers = read_providers(application.dependencies, problems)
        self._actions: dict[str, Action] = {}
        for package in application.actions:
            for name, handler in _handlers_in(package, problems):
                if name in self._actions:
                    other = self._actions[name].handler.__module__
                    problems.append(f"the action {name!r} is in two places: {other} and {handler.__module__}")
                else:
                    self._add(application, name, handler, problems)
        plan_for(self.providers, self.providers, "the application", problems)
        asked = ["checkpoint"] if "checkpoint" in self.providers else []
        plan = plan_for(asked, self.providers, "the application", problems)
        self.permission = Action("(permission)", _Asking, Schema(), plan, frozenset(), application.isolation)
        """Stands in for an action where only a permission is asked."""
        for projection in application.projections:
            problems += projection.problems(self._actions.keys())
        tables = application.models.tables if application.models is not None else {}
        problems += [
            f"unrecorded: there is no table {name!r} in `models`"
            for name in application.unrecorded
            if name not in tables
        ]
        problems += problems_of(application.models, application.unrecorded)
        if problems:
            raise ConfigurationError(list(dict.fromkeys(problems)))

    def find(self, name: object) -> Action | None:
        """The action called `name`, whatever a client sent as one, or None."""
        return self._actions.get(name) if isinstance(name, str) and NAME.fullmatch(name) else None

    def get(self, name: object) -> Action:
        """The action called `name`. Raises UnknownAction."""
        found = self.find(name)
        if found is None:
            raise UnknownAction(
                f"there is no action {printable_text(name)!r}; `actionbus actions` lists those there are"
            )
        return found

    def __iter__(self) -> Iterator[Action]:
        return iter(self._actions.values())

    def everyday(self) -> Iterator[Action]:
        """Those that callers are offered: all but what is for operators."""
        return (action for action in self if not action.for_operators)

    def upcasts(self, action: Action) -> bool:
        """Whether the handler says how older arguments are brought to its present shape."""
        return action.handler.upcast.__func__ is not ActionHandler.upcast.__func__  # type: ignore[attr-defined]

    @property
    def has_checkpoint(self) -> bool:
        """Whether anybody is asked for permissions."""
        return "checkpoint" in self.providers

    def queues(self) -> list[str]:
        """The queues that the actions name."""
        return sorted({action.handler.queue for action in self})

    def _add(self, application: Application, name: str, handler: type[ActionHandler], problems: list[str]) -> None:
        where = f"{handler.__module__}.{handler.__qualname__}"
        found = len(problems)
        _check_declaration(handler, where, problems)
        if len(problems) > found:
            return
        asks = handler.permission and (self.has_checkpoint or not handler.for_operators)
        wanted = [*handler.requires, *(["checkpoint"] if asks else [])]
        # The result goes through the application's serializer, whether the handler asks for it or not.
        wanted += ["serializer"] if "serializer" in self.providers else []
        plan = plan_for(wanted, self.providers, where, problems)
        try:
            schema = build_schema(name, handler.arguments)
        except ValueError as error:
            problems.append(f"{where}: {error}")
            return
        sensitive = frozenset(each for each, arg in handler.arguments.items() if arg.sensitive)
        personal = {each: arg.personal for each, arg in handler.arguments.items() if arg.personal}
        problems += _problems_of_personal(handler, where)
        isolation = handler.isolation or application.isolation
        self._actions[name] = Action(name, handler, schema, plan, sensitive, isolation, personal)


def class_name_of(action: str) -> str:
    """`add_asset` → `AddAsset`."""
    return "".join(part.capitalize() for part in action.split("_"))


def _handlers_in(package: str, problems: list[str]) -> list[tuple[str, type[ActionHandler]]]:
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        problems.append(f"the package of actions {package!r} cannot be imported: {error}")
        return []
    if not hasattr(module, "__path__"):
        problems.append(f"{package!r} is a module, not a package; actions live one per module in a package")
        return []
    names = sorted(info.name for info in pkgutil.iter_modules(module.__path__) if not info.ispkg)
    found = ((name, _handler_of(package, name, problems)) for name in names if not name.startswith("_"))
    return [(name, handler) for name, handler in found if handler]


def _handler_of(package: str, name: str, problems: list[str]) -> type[ActionHandler] | None:
    where = f"{package}.{name}"
    if not NAME.fullmatch(name):
        problems.append(f"{where}: an action's module is named in lower case, such as add_asset")
        return None
    try:
        module = importlib.import_module(where)
    except Exception as error:
        problems.append(f"{where} cannot be imported: {type(error).__name__}: {error}")
        return None
    handlers = _defined_in(module)
    if len(handlers) != 1:
        there = ", ".join(handler.__name__ for handler in handlers) or "none"
        problems.append(f"{where} must hold exactly one ActionHandler; there: {there}")
        return None
    if handlers[0].__name__.lower() != class_name_of(name).lower():
        problems.append(f"{where} holds {handlers[0].__name__}; its class must be called {class_name_of(name)}")
        return None
    return handlers[0]


def _defined_in(module: ModuleType) -> list[type[ActionHandler]]:
    classes = (each for _, each in inspect.getmembers(module, inspect.isclass))
    return [each for each in classes if issubclass(each, ActionHandler) and each.__module__ == module.__name__]


def _problems_of_personal(handler: type[ActionHandler], where: str) -> Iterator[str]:
    for name, arg in handler.arguments.items():
        if not arg.personal:
            continue
        if not isinstance(arg.personal, (bool, str)):
            yield f"{where}: argument {name!r}: personal is True, or the name of what holds the subject's id"
        if arg.sensitive:
            yield f"{where}: argument {name!r} is sensitive, hence never kept, so that nothing of it can be erased"
        if arg.personal == name:
            yield f"{where}: argument {name!r}: with personal=True it names its subject itself"
        named = handler.arguments.get(str(arg.personal))
        if named is not None and named.sensitive:
            yield f"{where}: argument {name!r}: {arg.personal!r} is sensitive, and cannot name a subject"
        if not can_encrypt():
            yield f"{where}: argument {name!r} is personal, which needs {INSTALL}"


def _check_declaration(handler: type[ActionHandler], where: str, problems: list[str]) -> None:
    if not isinstance(handler.arguments, Mapping) or not all(isinstance(a, Arg) for a in handler.arguments.values()):
        problems.append(f"{where}: `arguments` must map names to Arg(...)")
        return
    if isinstance(handler.requires, str) or not all(isinstance(name, str) for name in handler.requires):
        problems.append(f"{where}: `requires` must be a list of names")
        return
    if type(handler.version) is not int or handler.version < 1:
        problems.append(f"{where}: `version` must be a whole number from 1 up")
    if handler.isolation is not None and handler.isolation not in ISOLATION_LEVELS:
        problems.append(f"{where}: `isolation` must be one of: {', '.join(ISOLATION_LEVELS)}")
    if not isinstance(handler.queue, str) or not _QUEUE.fullmatch(handler.queue):
        problems.append(f"{where}: `queue` must be a name of letters, digits, dots, dashes and underscores")
    if handler.for_operators and not handler.permission:
        problems.append(f"{where}: an action for operators must name the `permission` that it takes")
    for step in ("set_args", "validate", "execute", "upcast"):
        problems += async_problem(inspect.getattr_static(handler, step), f"{where}.{step}()")
    if handler.execute is ActionHandler.execute:
        problems.append(f"{where} has no execute()")
    own = _RESERVED | {name for name in vars(handler) if not name.startswith("__")}
    for name in handler.arguments:
        if not name.isidentifier() or name.startswith("_"):
            problems.append(f"{where}: the argument {name!r} is not a plain Python name")
        elif name in _RESERVED | _IN_ARGS:
            problems.append(f"{where}: the argument {name!r} has the name of something a handler has already")
    for name in handler.requires:
        if name in own:
            problems.append(f"{where}: the dependency {name!r} has the name of something the handler has already")
