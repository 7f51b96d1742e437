"""The inspector's blueprint: routes, who is let in, headers, errors. Mounted by `flask.extension` and `mounting`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from flask import Blueprint, Response, current_app, g, request, url_for
from werkzeug.exceptions import HTTPException

from actionbus.adapters.http.access import STOPPING
from actionbus.adapters.http.answer import StreamedAnswer
from actionbus.adapters.http.api import Api
from actionbus.adapters.http.problems import Problem, problem_of
from actionbus.adapters.http.refusals import NotFound
from actionbus.adapters.inspector import pages
from actionbus.adapters.inspector.asking import Asking
from actionbus.adapters.inspector.rendering import POLICY, SERVED, Attachment, Goto, Page, file_of, rendered, stamp
from actionbus.adapters.links import NO_LINKS, Links
from actionbus.core import ActionRunner, HistoryError

NAME: Final = "actionbus_inspector"
_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_LONGEST_FORM: Final = 200_000
View = Callable[..., pages.Given]


def make_inspector(
    api: Api,
    admit: Callable[[], ActionRunner],
    *,
    is_on: Callable[[], bool] = lambda: True,
    links: Links = NO_LINKS,
) -> Blueprint:
    """The blueprint for what an Api reads. `admit` gives a runner for whoever looks, or raises a Refusal; while it is
    not `is_on`, there is nothing there. `links` is where else an action is told of.
    """
    site = _Site(api, admit, is_on, links)
    blueprint = Blueprint(NAME, __name__)
    blueprint.before_request(site.refuse_if_off)
    blueprint.after_request(_with_headers)
    blueprint.add_url_rule("/static/<name>", "static_file", _static)
    for rule, view in (pages.ROUTES | pages.OTHERS).items():
        blueprint.add_url_rule(rule, view.__name__, site.shows(view), methods=["GET"])
    for rule, begun in pages.CHANGES.items():
        blueprint.add_url_rule(rule, begun.__name__, site.shows(begun), methods=["POST"])
    blueprint.add_url_rule("/<path:rest>", "nothing", site.shows(_nothing), methods=["GET"])
    blueprint.register_error_handler(Exception, site.explained)
    return blueprint


class _Site:
    def __init__(self, api: Api, admit: Callable[[], ActionRunner], is_on: Callable[[], bool], links: Links) -> None:
        self._api, self._admit, self._is_on, self._links = api, admit, is_on, links

    def refuse_if_off(self) -> None:
        if not self._is_on():
            raise NotFound("there is nothing here")

    def shows(self, view: View) -> Callable[..., Response]:
        """A view as Flask calls it."""

        @functools.wraps(view)
        def answered(**path: str) -> Response:
            runner = self._admit()
            try:
                g.actionbus_has_jobs = self._api.jobs.may(runner)
                return self._response(view(self._asking(runner), **path))
            finally:
                runner.close()

        return answered

    def _asking(self, runner: ActionRunner) -> Asking:
        request.max_content_length = _LONGEST_FORM
        query, form = (tuple(each.items(multi=True)) for each in (request.args, request.form))
        return Asking(
            self._api,
            runner,
            _root(),
            query,
            form,
            _headers(),
            request.environ.get(STOPPING),
            request.host_url.rstrip("/"),
            self._links,
        )

    def _response(self, given: pages.Given) -> Response:
        root = _root()
        if isinstance(given, str):
            return Response(given.encode("utf-8", "replace"), content_type="text/plain; charset=utf-8")
        if isinstance(given, StreamedAnswer):
            return Response(given.chunks, given.status, given.headers, content_type=given.content_type)
        if isinstance(given, Attachment):
            kept = {"Content-Disposition": f'attachment; filename="{given.name}"'}
            return Response(given.text.encode(), headers=kept, content_type=given.content_type)
        if given is None:
            return Response(status=204)
        if isinstance(given, Goto):
            return Response(status=303, headers={"Location": root + given.path})
        body = rendered(
            given,
            root=root,
            stamp=stamp(),
            application=self._api.bus.application.name,
            path=request.path,
            has_jobs=g.get("actionbus_has_jobs", False),
        )
        return Response(body, given.status, content_type="text/html; charset=utf-8")

    def explained(self, error: Exception) -> Response:
        """What went wrong, as a page."""
        if isinstance(error, HTTPException):
            problem = Problem(error.code or 500, "http", error.name, error.description or "")
        else:
            problem = problem_of(NotFound(str(error)[:500]) if isinstance(error, HistoryError) else error)
            if problem.status >= 500:
                current_app.logger.error("the inspector failed", exc_info=error)
        return self._response(Page("problem.html", {"problem": problem, "title": problem.title}, problem.status))


def _nothing(asking: Asking, rest: str) -> Page:
    raise NotFound(f"there is no page {rest[:100]}")


def _static(name: str) -> Response:
    if name not in SERVED:
        raise NotFound("there is no such file")
    return Response(file_of(name), content_type=SERVED[name], headers={"Cache-Control": "max-age=31536000, immutable"})


def _root() -> str:
    """Where it is mounted, without a slash at the end, as browsers write it: Werkzeug leaves SCRIPT_NAME as it came."""
    return quote(url_for(f"{NAME}.timeline").rstrip("/"), safe="/%:@!$&'()*+,;=~")


def _headers() -> dict[str, str]:
    """Where a stream is to go on."""
    last = request.headers.get("Last-Event-ID")
    return {} if last is None else {"last-event-id": last}


def _with_headers(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response
