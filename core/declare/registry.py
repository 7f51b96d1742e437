"""Finds an application's handlers and checks its whole declaration; built once, when the Bus is."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import reprlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, ModuleType

from marshmallow import Schema

from actionbus.core.declare.application import ISOLATION_LEVELS, Application
from actionbus.core.declare.arg import Arg, build_schema
from actionbus.core.declare.asynchronous import async_problem
from actionbus.core.declare.dependencies import Plan, Provider, plan_for, read_providers
from actionbus.core.declare.given import is_text, shown
from actionbus.core.declare.handler import ActionHandler, Arguments
from actionbus.core.declare.mistyped import warn_of_mistyped
from actionbus.core.declare.performing import action_that_performs, handler_that_performs
from actionbus.core.declare.personal import problems_of
from actionbus.core.declare.plain import Plain, plain_of
from actionbus.core.declare.queue import problems_of_queueing
from actionbus.core.errors import ConfigurationError, UnknownAction
from actionbus.core.secrecy.personal import INSTALL, can_encrypt
from actionbus.core.values.payload import printable_text

NAME = re.compile(r"[a-z][a-z0-9_]{0,99}", re.ASCII)
"""What an action may be called. Nothing else is ever looked up, let alone imported."""

QUEUE_ACTIONS = "actionbus.core.queueing.actions"
"""The package of operators' actions about queues, which `queueing.operating` adds for the one call that runs them."""
OF_QUEUES = {"cancel_run", "retry_run", "reschedule_run", "pause_queue", "resume_queue", "queue_tick"}
"""Their names, which no application's action may have."""
_RESERVED = {name for name in dir(ActionHandler) if not name.startswith("__")} | {"args"}
_OF_QUEUEING = {"priority", "retry", "timeout", "concurrency_key", "unique", "every", "cancelled"}
"""Names that arguments may well have, which are read from `args`."""
_IN_ARGS = {name for name in dir(Arguments) if not name.startswith("__")}


class _Asking(ActionHandler):
    """Has no arguments and does nothing."""


@dataclass(frozen=True, slots=True)
class Action:
    """A handler class with everything derived from it once."""

    name: str
    handler: type[ActionHandler]
    schema: Schema
    plain: Plain | None
    plan: Plan
    sensitive: frozenset[str]
    isolation: str
    personal: Mapping[str, bool | str] = field(default_factory=lambda: MappingProxyType({}))
    """By argument, which other one names the subject, or that it does itself."""

    @property
    def for_operators(self) -> bool:
        """Whether it is no part of the everyday catalogue; see `ActionHandler.for_operators`."""
        return self.handler.for_operators

    @property
    def performs(self) -> str | None:
        """The dependency whose postponed calls it makes, if it is an action of that kind."""
        return self.handler._performs


class Registry:
    """All actions of an application by name."""

    def __init__(self, application: Application) -> None:
        problems: list[str] = []
        self.providers = read_providers(application.dependencies, problems)
        self._actions: dict[str, Action] = {}
        for package in application.actions:
            for name, handler in _handlers_in(package, problems):
                if name in OF_QUEUES and package != QUEUE_ACTIONS:
                    problems.append(f"{package}.{name} has the name of an action of actionbus; call it otherwise")
                elif name in self._actions:
                    other = self._actions[name].handler.__module__
                    problems.append(f"the action {name!r} is in two places: {other} and {handler.__module__}")
                else:
                    self._add(application, name, handler, problems)
        for provider in self.providers.values():
            if provider.nature == "postponed":
                self._add_performing(application, provider, problems)
        plan_for(self.providers, self.providers, "the application", problems)
        asked = ["checkpoint"] if "checkpoint" in self.providers else []
        plan = plan_for(asked, self.providers, "the application", problems)
        self.permission = Action("(permission)", _Asking, Schema(), None, plan, frozenset(), application.isolation)
        """Stands in for an action where only a permission is asked."""
        fed = (*application.projections, *application.subscriptions)
        for each in fed:
            problems += each.problems(self._actions.keys())
        names = [each.name for each in fed]
        problems += [f"two projections or subscriptions are called {name!r}" for name in names if names.count(name) > 1]
        tables = application.models.tables if application.models is not None else {}
        problems += [
            f"unrecorded: there is no table {name!r} in `models`"
            for name in application.unrecorded
            if name not in tables
        ]
        problems += problems_of(application.models, application.unrecorded)
        problems += self._problems_of_queues(application)
        if problems:
            raise ConfigurationError(list(dict.fromkeys(problems)))

    def find(self, name: object) -> Action | None:
        """The action called `name`, whatever a client sent as one, or None."""
        return self._actions.get(name) if isinstance(name, str) else None  # whose names are all as `NAME` wants them

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
        """Those that callers are offered: all but what is for operators, and what makes postponed calls."""
        return (action for action in self if not action.for_operators and action.performs is None)

    def upcasts(self, action: Action) -> bool:
        """Whether the handler says how older arguments are brought to its present shape."""
        return action.handler.upcast.__func__ is not ActionHandler.upcast.__func__  # type: ignore[attr-defined]

    @property
    def has_checkpoint(self) -> bool:
        """Whether anybody is asked for permissions."""
        return "checkpoint" in self.providers

    def _problems_of_queues(self, application: Application) -> Iterator[str]:
        seen: set[str] = set()
        for queue in application.queues:
            yield from queue.problems()
            if not is_text(queue.name):
                continue
            if queue.name in seen:
                yield f"Queue({queue.name!r}) is declared twice"
            seen.add(queue.name)
            if queue.name not in self.queues():
                yield f"Queue({queue.name!r}): no action names this queue; there are: {', '.join(self.queues())}"

    def queues(self) -> list[str]:
        """The queues that the actions name."""
        return sorted({action.handler.queue for action in self})

    def _add_performing(self, application: Application, provider: Provider, problems: list[str]) -> None:
        """The action that makes the postponed calls of a dependency."""
        name = action_that_performs(provider.name)
        if not NAME.fullmatch(name):
            problems.append(f"dependency {provider.name!r}: with after_commit its name is written in lower case")
        elif name in self._actions:
            problems.append(
                f"dependency {provider.name!r}: its calls after the commit are made by the action {name!r}, and "
                f"{self._actions[name].handler.__module__} has that name already; call one of them otherwise"
            )
        else:
            self._add(application, name, handler_that_performs(provider, application.limits), problems)

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
        plan = plan_for(wanted, self.providers, where, problems, performing=handler._performs)
        try:
            schema, plain = _loaders_of(name, handler)
        except ValueError as error:
            problems.append(f"{where}: {error}")
            return
        sensitive = frozenset(each for each, arg in handler.arguments.items() if arg.sensitive)
        personal = {each: arg.personal for each, arg in handler.arguments.items() if arg.personal}
        problems += _problems_of_personal(handler, where)
        isolation = handler.isolation or application.isolation
        self._actions[name] = Action(name, handler, schema, plain, plan, sensitive, isolation, personal)


def _loaders_of(name: str, handler: type[ActionHandler]) -> tuple[Schema, Plain | None]:
    """What loads its arguments, made once: tests make a Bus each. Raises ValueError for an Arg that cannot be used."""
    arguments = dict(handler.arguments)
    known = vars(handler).get("__loaders__")
    # By address, which is an Arg's own as long as it is kept: Args that are equal may hold other objects.
    made_of = name, [(each, id(arg)) for each, arg in arguments.items()]
    if known and known[0] == made_of:
        return known[2], known[3]
    schema = build_schema(name, arguments)
    plain = plain_of(schema)
    handler.__loaders__ = (made_of, arguments, schema, plain)
    return schema, plain


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
    if not isinstance(handler.requires, Collection) or isinstance(handler.requires, str):
        problems.append(f"{where}: `requires` must be a list of names, not {reprlib.repr(handler.requires)}")
        return
    if not all(isinstance(name, str) for name in (*handler.requires, *handler.arguments)):
        problems.append(f"{where}: `requires` must be a list of names, and `arguments` must map names to Arg(...)")
        return
    if type(handler.version) is not int or handler.version < 1:
        problems.append(f"{where}: `version` must be a whole number from 1 up, not {reprlib.repr(handler.version)}")
    if handler.isolation is not None and handler.isolation not in ISOLATION_LEVELS:
        problems.append(f"{where}: `isolation` must be one of: {', '.join(ISOLATION_LEVELS)}")
    problems += problems_of_queueing(handler, where)
    warn_of_mistyped(handler, ActionHandler)
    if handler.permission is not None and not is_text(handler.permission):
        problems.append(f"{where}: `permission` must be a text such as 'assets:write', not {shown(handler.permission)}")
    if type(handler.for_operators) is not bool:
        problems.append(f"{where}: `for_operators` must be True or False, not {shown(handler.for_operators)}")
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
        elif name in (_RESERVED - _OF_QUEUEING) | _IN_ARGS:
            problems.append(f"{where}: the argument {name!r} has the name of something a handler has already")
    for name in handler.requires:
        if name in own:
            problems.append(f"{where}: the dependency {name!r} has the name of something the handler has already")
