"""What a view may ask: the query of its request, and the read API as a client would over HTTP, in this process.

A page knows nothing but what the read API tells the caller who looks at it: so what is masked there is masked here.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from actionbus.adapters.http.answer import Answer, StreamedAnswer
from actionbus.adapters.http.api import Api
from actionbus.adapters.http.journal_access import access_of
from actionbus.adapters.http.reading import refuse_others
from actionbus.adapters.http.request import Request
from actionbus.adapters.inspector.looks import Looks
from actionbus.adapters.links import NO_LINKS, Links
from actionbus.core import ActionRunner
from actionbus.core.values.payload import loads

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Asking:
    """One request for a page. Every method that asks raises what `problems.problem_of` tells."""

    api: Api
    runner: ActionRunner
    root: str
    query: Pairs
    form: Pairs = ()
    """What was sent, where something is to be begun."""
    headers: dict[str, str] = field(default_factory=dict)
    """Those that a stream reads."""
    stopping: threading.Event | None = None
    """Set when the server ends, if it says so."""
    host: str = ""
    """Where this is served, without a path."""
    links: Links = NO_LINKS
    """Where else an action is told of."""

    def first(self, name: str) -> str | None:
        """A parameter of the page's query; None for an empty one, as forms send them."""
        return next((value for each, value in self.query if each == name and value), None)

    def given(self, names: Iterable[str]) -> Pairs:
        """Those of the page's parameters that have one of these names, but for empty ones."""
        wanted = set(names)
        return tuple((name, value) for name, value in self.query if name in wanted and value)

    def refuse_others(self, names: Collection[str]) -> None:
        """A filter that is mistyped would show everything. Raises Malformed."""
        refuse_others(self._request("", self.query), names)

    @property
    def looks(self) -> Looks:
        """Projections, runs, the application."""
        return Looks(self.api, self.runner)

    def here(self, path: str) -> str:
        """The whole address of a page."""
        return f"{self.host}{self.root}{path}"

    def may_search(self) -> bool:
        """Whether the caller may look for words in what was asked and came of it."""
        return access_of(self.runner, self.api.bus).payloads

    def journal(self, pairs: Iterable[tuple[str, str]]) -> Any:
        """`GET /journal`."""
        return told(self.api.journal.page(self.runner, self._request("/journal", pairs)))

    def action(self, which: str) -> Any:
        """`GET /journal/WHICH`."""
        return told(self.api.journal.action(self.runner, which))

    def tail(self, pairs: Iterable[tuple[str, str]]) -> StreamedAnswer:
        """`GET /journal/stream`. Raises Busy."""
        asked = Request("GET", "/journal/stream", self.headers, tuple(pairs), self.root)
        return self.api.journal.stream(self.runner, asked, self.api.streams, self.stopping)

    def density(self, pairs: Iterable[tuple[str, str]]) -> Any:
        """`GET /journal/density`."""
        return told(self.api.journal.density(self.runner, self._request("/journal/density", pairs)))

    def facets(self, pairs: Iterable[tuple[str, str]]) -> Any:
        """`GET /journal/facets`."""
        return told(self.api.journal.facets(self.runner, self._request("/journal/facets", pairs)))

    def causes(self, which: str) -> Any:
        """`GET /journal/causes/WHICH`."""
        return told(self.api.journal.causes(self.runner, self._request(f"/journal/causes/{which}", ()), which))

    def generated(self, which: str, value: str) -> str | None:
        """`GET /journal/generated/WHICH`: what in an action gave a value, if it did."""
        path = f"/journal/generated/{which}"
        asked = self._request(path, [("value", value)])
        found: str | None = told(self.api.journal.generated(self.runner, asked, which))["generated"]
        return found

    def tables(self) -> Any:
        """`GET /history/tables`."""
        return told(self.api.history.tables(self.runner, self._request("/history/tables", ())))

    def row(self, table: str, key: str, pairs: Iterable[tuple[str, str]]) -> Any:
        """`GET /history/rows/TABLE/KEY`."""
        return told(self.api.history.row(self.runner, self._request("/history/rows", pairs), table, key))

    def state(self, table: str, pairs: Iterable[tuple[str, str]]) -> Any:
        """`GET /history/state/TABLE`."""
        return told(self.api.history.state(self.runner, self._request("/history/state", pairs), table))

    def diff(self, pairs: Iterable[tuple[str, str]]) -> Any:
        """`GET /history/diff`."""
        return told(self.api.history.diff(self.runner, self._request("/history/diff", pairs)))

    def jobs(self) -> Any:
        """`GET /history/jobs`."""
        return told(self.api.jobs.all(self.runner, self._request("/history/jobs", ())))["jobs"]

    def begin_job(self, given: Mapping[str, str]) -> Any:
        """`POST /history/jobs`."""
        return told(self.api.jobs.begin(self.runner, self._request("/history/jobs", ()), given))

    def job(self, name: str) -> Any:
        """`GET /history/jobs/NAME`."""
        return told(self.api.jobs.get(self.runner, self._request("/history/jobs", ()), name))

    def printed_by_job(self, name: str) -> str:
        """All that it printed."""
        return self.api.jobs.printed(self.runner, name)

    def cancel_job(self, name: str) -> Any:
        """`DELETE /history/jobs/NAME`."""
        return told(self.api.jobs.cancel(self.runner, self._request("/history/jobs", ()), name))

    def _request(self, path: str, pairs: Iterable[tuple[str, str]]) -> Request:
        return Request("GET", path, {}, tuple(pairs), self.root)


def told(answer: Answer) -> Any:
    """What an answer of JSON says."""
    return loads(answer.body.decode())


def address(path: str, pairs: Iterable[tuple[str, str]]) -> str:
    """A page's path with a query."""
    query = urlencode(list(pairs), errors="surrogatepass")
    return f"{path}?{query}" if query else path
