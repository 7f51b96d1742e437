"""Application, the declaration of an app: what it can do and what its actions need. Holds no connection."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final, Protocol

from sqlalchemy import MetaData

from actionbus.core.declare.dependencies import pure
from actionbus.core.declare.middleware import Middleware
from actionbus.core.declare.queue import Queue
from actionbus.core.values.limits import Limits
from actionbus.core.values.public import public

UNRECORDED: Final = "actionbus.unrecorded"
"""Where a MetaData's `info` holds, by application, what that leaves out; read where tables are created."""


class ReadModel(Protocol):
    """What the bus asks of a class in `projections=` or `subscriptions=`; those of `projections` answer."""

    name: ClassVar[str]

    @classmethod
    def action_packages(cls) -> Sequence[str]:
        """Packages of actions that come with it."""
        ...

    @classmethod
    def dependencies(cls) -> Mapping[str, Any]:
        """Providers of what those actions require; the application's own of the same names win."""
        ...

    @classmethod
    def problems(cls, actions: Collection[str]) -> list[str]:
        """What is wrong with its declaration, given the names of all actions."""
        ...


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
        self.name = name
        self.projections = tuple(projections)
        self.subscriptions = tuple(subscriptions)
        fed = (*self.projections, *self.subscriptions)
        self.middleware = tuple(middleware)
        self.queues = tuple(queues)
        packages = [actions] if isinstance(actions, str) else list(actions)
        for projection in fed:
            packages += projection.action_packages()
        self.actions = tuple(dict.fromkeys(packages))
        self.models = models
        self.unrecorded = (unrecorded,) if isinstance(unrecorded, str) else tuple(unrecorded)
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
