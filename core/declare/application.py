"""Application, the declaration of an app: what it can do and what its actions need. Holds no connection."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy import MetaData

from actionbus.core.declare.dependencies import pure
from actionbus.core.declare.fed import ReadModel, read_models
from actionbus.core.declare.given import is_text, listed, shown, texts, wanted
from actionbus.core.declare.middleware import Middleware, middlewares
from actionbus.core.declare.queue import Queue
from actionbus.core.errors import ConfigurationError
from actionbus.core.values.limits import Limits
from actionbus.core.values.public import public

ISOLATION_LEVELS: Final = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
UNRECORDED: Final = "actionbus.unrecorded"
"""Where a MetaData's `info` holds, by application, what that leaves out; read where tables are created."""


@public
class Application:
    """Bind it to a database with `Bus(application, url)`; the same one serves production, tests and sandboxes.

    `actions` are dotted names of packages that hold one action per module. `dependencies` maps names to providers
    (see `declare.dependencies`). `models` are the business tables. `release` is written on every record: the
    application's version or git revision; by default the environment's ACTIONBUS_RELEASE. `isolation` is the
    isolation level of actions on PostgreSQL. `projections` are the classes of its read models,
    `subscriptions` those of what follows its journal.
    `unrecorded` names the tables of `models` whose rows have no history; all others are recorded from when they are
    created (`Bus.create`, or `models.create_all` in a database that has a journal).
    `queues` are the limits of those queues that have any.
    `middleware` is code around every action (see `declare.middleware`), the outermost first.

    Raises ConfigurationError for what is of another type; the rest is checked when a Bus is built.
    """

    def __init__(
        self,
        name: str,
        *,
        actions: Sequence[str],
        models: MetaData | None = None,
        dependencies: Mapping[str, Any] | None = None,
        release: str | None = None,
        limits: Limits | None = None,
        isolation: str = "READ COMMITTED",
        projections: Sequence[type[ReadModel]] = (),
        subscriptions: Sequence[type[ReadModel]] = (),
        middleware: Sequence[Middleware] = (),
        unrecorded: Sequence[str] = (),
        queues: Sequence[Queue] = (),
    ) -> None:
        problems: list[str] = []
        self.name = name if wanted("name", name or None, str, "the application's name", problems) else ""
        self.projections = read_models("projections", projections, problems)
        self.subscriptions = read_models("subscriptions", subscriptions, problems)
        fed = (*self.projections, *self.subscriptions)
        self.middleware = middlewares(middleware, problems)
        self.queues = listed("queues", queues, _is_queue, "Queue(name, …)", problems, _queue_shown(queues))
        packages = list(texts("actions", actions, "dotted names of packages", problems))
        self.unrecorded = texts("unrecorded", unrecorded, "names of tables", problems)
        _check(models, dependencies, release, limits, isolation, problems)
        if problems:
            raise ConfigurationError(problems)
        for projection in fed:
            packages += projection.action_packages()
        self.actions = tuple(dict.fromkeys(packages))
        self.models = models
        if models is not None:
            models.info.setdefault(UNRECORDED, {})[name] = self.unrecorded
        self.dependencies = {
            name: provider for projection in fed for name, provider in projection.dependencies().items()
        } | dict(dependencies or {})
        self.release = release or os.environ.get("ACTIONBUS_RELEASE") or None
        self.limits = limits or Limits()
        self.isolation = isolation

    def __repr__(self) -> str:
        return f"<Application {self.name}>"


def _check(
    models: object, dependencies: object, release: object, limits: object, isolation: object, problems: list[str]
) -> None:
    metadata = getattr(models, "metadata", None)
    hint = f"; give models={getattr(models, '__name__', 'Base')}.metadata" if isinstance(metadata, MetaData) else ""
    if models is not None and not isinstance(models, MetaData):
        problems.append(f"models: expected SQLAlchemy's MetaData, not {shown(models)}{hint}")
    if dependencies is not None:
        if not isinstance(dependencies, Mapping):
            problems.append(f"dependencies: expected a dict of providers by name, not {shown(dependencies)}")
        else:
            wrong = [name for name in dependencies if not is_text(name)]
            problems += [f"dependencies: expected names, not {shown(name)}" for name in wrong]
    if release is not None:
        wanted("release", release, str, "a text such as '1.4.2', or None", problems)
    if isinstance(limits, Limits):
        problems += limits.problems()
    elif limits is not None:
        problems.append(f"limits: expected Limits(…), not {shown(limits)}")
    if isolation not in ISOLATION_LEVELS:
        problems.append(f"isolation: expected one of {', '.join(ISOLATION_LEVELS)}, not {shown(isolation)}")


def _is_queue(given: object) -> bool:
    return isinstance(given, Queue)


def _queue_shown(given: object) -> str:
    return f"Queue({given.name!r}, …)" if isinstance(given, Queue) else ""


def narrowed(application: Application, actions: str, **given: object) -> Application:
    """One with the actions of one package alone, whose handlers get what is `given`; who grants permissions stays."""
    objects = {name: pure(partial(_itself, each)) for name, each in given.items()}
    return Application(
        application.name,
        actions=[actions],
        dependencies=application.dependencies | objects,
        release=application.release,
        limits=application.limits,
    )


def _itself(given: object) -> object:
    return given
