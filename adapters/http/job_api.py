"""JobApi answers requests for jobs: bisect, verify, what if, preview, revert, and decisions about the queue.

`/history/jobs…`, and the inspector's pages of jobs, which ask the same. It takes `journal:jobs` besides all that a
whole record takes, since what a job prints is not masked. What an action does, a revert or a preview, the application's
checkpoint is asked about as if the caller ran it himself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from shlex import join
from typing import Any, Final

from actionbus.adapters.http.answer import Answer, shown
from actionbus.adapters.http.job_kinds import FIELDS, KINDS, Asker, command_of
from actionbus.adapters.http.jobs import Job, Jobs
from actionbus.adapters.http.journal_access import PERSONAL, access_of
from actionbus.adapters.http.reading import refuse_others
from actionbus.adapters.http.refusals import Malformed, NotFound
from actionbus.adapters.http.request import Request
from actionbus.core import ActionRunner, Bus, PermissionDenied
from actionbus.core.values.payload import loads

JOBS: Final = "journal:jobs"
"""Asked besides `journal:personal`; its argument is `kind`, None to look at jobs."""
_AS_CALLER: Final = {"ACTIONBUS_AS_CALLER": "1", "ACTIONBUS_ACTOR": ""}
_LONGEST: Final = 100_000
Given = Mapping[str, Any]


class JobApi:
    """Every method raises what `problems.explain` tells; NotFound where there are no jobs at all."""

    def __init__(self, bus: Bus, jobs: Callable[[], Jobs | None]) -> None:
        self._bus, self._jobs = bus, jobs

    def may(self, runner: ActionRunner) -> bool:
        """Whether the caller may look at jobs, and there are any to be had."""
        try:
            self._require(runner)
        except (PermissionDenied, NotFound):
            return False
        return True

    def all(self, runner: ActionRunner, request: Request) -> Answer:
        """The latest, newest first."""
        refuse_others(request, ())
        return shown({"jobs": [_gist(each) for each in self._require(runner).all()]})

    def begin(self, runner: ActionRunner, request: Request, given: Any) -> Answer:
        """Begin one: 202, and where it is."""
        refuse_others(request, ())
        if not isinstance(given, Mapping) or not all(isinstance(each, str) for each in given.values()):
            raise Malformed("a job is a JSON object whose values are texts")
        for name, value in given.items():
            if name not in FIELDS:
                raise Malformed(f"there is no {name[:100]!r}; there are: {', '.join(FIELDS)}", {name: ["is unknown"]})
            if len(value) > _LONGEST:
                raise Malformed(f"{name} is longer than {_LONGEST} characters", {name: ["is too long"]})
        kind = given.get("kind", "")
        jobs = self._require(runner, kind if kind in KINDS else None)
        kind, command = command_of(Asker(runner.is_operator, runner.actor), given)
        settings = {} if runner.is_operator else _AS_CALLER
        name = jobs.start(kind, command.words, actor=runner.actor, settings=settings, files=command.files)
        return shown(_told(jobs.get(name)), 202, Location=f"{request.root}/history/jobs/{name}")

    def get(self, runner: ActionRunner, request: Request, name: str) -> Answer:
        """How far one is, and what came of it."""
        refuse_others(request, ())
        return shown(_told(self._require(runner).get(name)))

    def printed(self, runner: ActionRunner, name: str) -> str:
        """All that one printed. Raises NotFound."""
        jobs = self._require(runner)
        return jobs.printed(jobs.get(name).id)[0]

    def cancel(self, runner: ActionRunner, request: Request, name: str) -> Answer:
        """End one as Ctrl-C does; asked again, at once."""
        refuse_others(request, ())
        jobs = self._require(runner)
        jobs.cancel(name)
        return shown(_told(jobs.get(name)))

    def _require(self, runner: ActionRunner, kind: str | None = None) -> Jobs:
        access = access_of(runner, self._bus)
        if not access.personal:
            raise PermissionDenied(f"what jobs print is not masked, so they take the permission {PERSONAL}")
        if not runner.is_operator:
            runner.require(JOBS, {"kind": kind})
        if (jobs := self._jobs()) is None:
            raise NotFound("there are no jobs here; the command line has them: actionbus history, actionbus replay")
        return jobs


def _gist(job: Job) -> dict[str, Any]:
    told = {name: getattr(job, name) for name in ("id", "kind", "actor", "began", "state", "code", "progress")}
    return told | {"command": f"actionbus {join(job.words)}"}


def _told(job: Job) -> dict[str, Any]:
    """A job, with what it printed: JSON as `answer`, all else line by line."""
    answer, lines = list[Any](), list[str]()
    for line in job.printed.splitlines()[: None if job.is_whole else -1]:
        found = _document(line)
        if found is None:
            lines.append(line)
        else:
            answer.append(found)
    return _gist(job) | {"answer": answer, "lines": lines, "is_whole": job.is_whole}


def _document(line: str) -> Any:
    if not line.startswith("{"):
        return None
    try:
        return loads(line)
    except (ValueError, RecursionError):
        return None
