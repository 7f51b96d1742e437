"""What the extension keeps for one Flask app, and what views find out of the request they serve."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

import flask
from flask import Response, current_app, g
from flask.wrappers import Request as FlaskRequest
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from actionbus.adapters.http.access import ACTOR, CORRELATION_ID
from actionbus.adapters.http.answer import Answer, StreamedAnswer
from actionbus.adapters.http.api import Api
from actionbus.adapters.http.caller import context_of, correlation_id_of
from actionbus.adapters.http.problems import explain, raised_by
from actionbus.adapters.http.refusals import TooLarge, Unauthorized
from actionbus.adapters.http.request import Request
from actionbus.core import ActionRunner, Bus, Outcome
from actionbus.core.gateway.ticket import Ticket
from actionbus.projections import Projections

P = ParamSpec("P")
R = TypeVar("R")
Authenticate = Callable[[FlaskRequest], str | None]
"""Who sent a request; None if nobody is to be let in."""


@dataclass
class ExtensionState:
    """What the extension keeps in `app.extensions["actionbus"]`."""

    api: Api
    authenticate: Authenticate | None
    prefix: str
    page_of: Callable[[UUID], str | None] = lambda _: None
    """Where an action can be looked at, if the inspector is somewhere."""

    @property
    def bus(self) -> Bus:
        """The bus of the app."""
        return self.api.bus

    def projections(self) -> Projections:
        """Where read models are looked at."""
        return self.api.projections()


def state() -> ExtensionState:
    """The extension's state for the current app. Raises RuntimeError if it has none."""
    found = current_app.extensions.get("actionbus")
    if found is None:
        raise RuntimeError("this Flask app has no actionbus; bind it: ActionBus(app, application=…)")
    return cast("ExtensionState", found)


def current_bus() -> Bus:
    """The bus of the current app."""
    return state().bus


def asked() -> Request:
    """The current request, as `adapters.http` reads it."""
    if "actionbus_request" not in g:
        given = flask.request
        root = given.root_path.rstrip("/") + state().prefix
        query = given.args.items(multi=True)
        g.actionbus_request = Request.of(given.method, given.path, given.headers.items(), query, root)
    return cast("Request", g.actionbus_request)


def body_of_request(most: int) -> bytes:
    """The body of the current request. Raises TooLarge for more bytes than that."""
    request = flask.request
    if request.content_length is not None and request.content_length > most:
        raise TooLarge(f"the body is larger than {most} bytes")
    request.max_content_length = most
    try:
        return request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise TooLarge(f"the body is larger than {most} bytes") from None


def correlation_id() -> str:
    """The current request's correlation id, the same for the whole request."""
    if "actionbus_correlation_id" not in g:
        g.actionbus_correlation_id = correlation_id_of(asked())
    return cast("str", g.actionbus_correlation_id)


def actor_of_request() -> str | None:
    """Who sent the current request, asked once. Raises Unauthorized, or Refusal for where it comes from."""
    if "actionbus_actor" not in g:
        state().api.gate.admit(asked())
        authenticate = state().authenticate
        actor = authenticate(flask.request) if authenticate else None
        if authenticate and actor is None:
            raise Unauthorized
        g.actionbus_actor = actor
    return cast("str | None", g.actionbus_actor)


def runner_of_request() -> ActionRunner:
    """A runner for the caller of the current request. Raises Unauthorized."""
    actor = actor_of_request()
    runner = current_bus().runner(actor, correlation_id=correlation_id(), context=context_of(asked()))
    return _GuardedRunner(runner, partial(state().api.gate.check_page, asked()))


class _GuardedRunner(ActionRunner):
    """Runs nothing for a page of another site, not even where the request's method says that it only reads."""

    def __init__(self, runner: ActionRunner, check: Callable[[], None]) -> None:
        super().__init__(runner._services, runner._caller)
        self._check = check

    def execute(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None
    ) -> Outcome:
        """As it does elsewhere; raises CrossSite besides."""
        self._check()
        return super().execute(name, arguments, idempotency_key=idempotency_key)

    def execute_async(self, name: str, arguments: Mapping[str, Any] | None = None, **options: Any) -> Ticket:
        """As it does elsewhere; raises CrossSite besides."""
        self._check()
        return super().execute_async(name, arguments, **options)


def provide_action_runner(view: Callable[P, R]) -> Callable[P, R]:
    """Decorate a view: while it runs, `flask.g.action_runner` is the gateway, bound to the request's caller."""

    @functools.wraps(view)
    def with_runner(*args: P.args, **kwargs: P.kwargs) -> R | Response:
        runner = g.action_runner = runner_of_request()
        try:
            return view(*args, **kwargs)
        except BaseException as error:
            if raised_by(error) is None or not _would_be_answered_amiss(error):
                raise
            return responded(explain(error, state().page_of))
        finally:
            runner.close()

    return cast("Callable[P, R]", with_runner)


def _would_be_answered_amiss(error: BaseException) -> bool:
    """Whether Flask would take what an action raised for a view's answer, or would not answer at all."""
    if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        return False  # it came from the keyboard, and means the server
    return isinstance(error, HTTPException) or not isinstance(error, Exception)


def streamed(answer: StreamedAnswer) -> Response:
    """The same of an answer that comes bit by bit."""
    return Response(answer.chunks, answer.status, answer.headers, content_type=answer.content_type)


def responded(answer: Answer) -> Response:
    """An answer as a response of Flask's."""
    return Response(answer.body, answer.status, answer.headers, content_type=answer.content_type)


def tell_server(environ: dict[str, Any]) -> None:
    """Leave for an access log around the app (`adapters.http.access`) who asked, and in which request."""
    environ[ACTOR], environ[CORRELATION_ID] = g.get("actionbus_actor"), g.get("actionbus_correlation_id")
