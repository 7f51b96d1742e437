"""Every setting that is read from the environment or from Flask's configuration; docs/settings.md is made of this.

`python -m actionbus.adapters.settings > docs/settings.md` writes the page anew; the tests hold both together, and see
that no other name is read anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

import click

from actionbus.core.values.base_error import ActionBusError

DEFAULT_APPLICATION: Final = "actionbus.adapters.library.app:library"
DEFAULT_DATABASE: Final = "sqlite:///var/library.db"
"""What the command line takes where nobody names another."""
LARGEST: Final = 1_000_000_000
N = TypeVar("N", int, float)

ENVIRONMENT: Final = "environment"
FLASK: Final = "Flask"


class Setting(NamedTuple):
    """A name without `ACTIONBUS_`, where it is read from, what it says, and the option that outdoes it."""

    name: str
    read_from: tuple[str, ...]
    meaning: str
    default: str = ""
    option: str = ""


class BadSetting(ActionBusError, ValueError):
    """A setting of the environment says what cannot be meant."""


_ANYWHERE: Final = (ENVIRONMENT, FLASK)
_ENVIRONMENT: Final = (ENVIRONMENT,)
_FLASK: Final = (FLASK,)

SETTINGS: Final = (
    Setting("APP", _ENVIRONMENT, "`module:attribute` of the Application", "the bundled library", "--app"),
    Setting(
        "DATABASE_URL",
        _ANYWHERE,
        "the database's URL",
        "`sqlite:///var/library.db`; in Flask `SQLALCHEMY_DATABASE_URI`",
        "--database",
    ),
    Setting("SCHEMA", _ANYWHERE, "the schema of the journal, on PostgreSQL", "where `search_path` leads", "--schema"),
    Setting("ACTOR", _ENVIRONMENT, "who acts, for `actionbus run`", "nobody", "--actor"),
    Setting("RELEASE", _ENVIRONMENT, "the application's version or git revision, written on every record"),
    Setting("LOG_FORMAT", _ENVIRONMENT, "`text` or `json`", "`text`", "--log-format"),
    Setting(
        "BROKER_URL",
        _ANYWHERE,
        "what wakes workers of queued actions, such as `redis://localhost`",
        "the database",
        "--broker",
    ),
    Setting(
        "LEAVE_CALLS_TO_WORKERS",
        _ANYWHERE,
        "`true`: calls that wait for the commit are made by workers, not by who ran the action "
        "([outside-calls.md](outside-calls.md))",
        "`false`; with a broker, `true`",
        "--leave-calls-to-workers",
    ),
    Setting(
        "REDELIVER_AFTER",
        _ENVIRONMENT,
        "seconds until a message that nobody picked up is sent again; doubled every time",
        "60",
    ),
    Setting(
        "GRACE", _ENVIRONMENT, "seconds after SIGTERM until a worker ends and hands back what runs", "30", "--grace"
    ),
    Setting("ATTEMPTS", _ENVIRONMENT, "how many times a queued action is tried", "10"),
    Setting(
        "ELASTICSEARCH_URL",
        _ANYWHERE,
        "where documents are kept: the URLs of a cluster's nodes, with commas "
        "between, or `embedded` for the application's own database",
        "the local server if it runs, else `embedded`",
        "--elasticsearch",
    ),
    Setting("ELASTICSEARCH_PREFIX", _ENVIRONMENT, "what all names there begin with, such as `staging-`"),
    Setting("ELASTICSEARCH_USER", _ENVIRONMENT, "the user to be let in as, with a password"),
    Setting("ELASTICSEARCH_PASSWORD", _ENVIRONMENT, "the password, as it is; in a URL it must be percent-encoded"),
    Setting("ELASTICSEARCH_API_KEY", _ENVIRONMENT, "the key to be let in with, in place of a user"),
    Setting("ELASTICSEARCH_CA_CERTS", _ENVIRONMENT, "the file of certificates that its own is checked with"),
    Setting("ELASTICSEARCH_FINGERPRINT", _ENVIRONMENT, "the SHA-256 of its certificate, which is then taken unchecked"),
    Setting("ELASTICSEARCH_CLIENT_CERT", _ENVIRONMENT, "the file of a certificate that it knows us by"),
    Setting("ELASTICSEARCH_CLIENT_KEY", _ENVIRONMENT, "the file of that one's key"),
    Setting("ELASTICSEARCH_TIMEOUT", _ENVIRONMENT, "seconds that an answer may take, from one node", "30"),
    Setting(
        "REBUILD_RATE",
        _ENVIRONMENT,
        "how many records a rebuild reads a second, at most",
        "as fast as it goes",
        "--rate",
    ),
    Setting(
        "AUTHENTICATE",
        _ENVIRONMENT,
        "`module:function` that says who sends a request, or `none`, for `actionbus serve`",
        "",
        "--authenticate",
    ),
    Setting("API", _FLASK, "`False` leaves the generated API out", "`True`"),
    Setting("URL_PREFIX", _FLASK, "where it is mounted, such as `/api/v1`"),
    Setting(
        "ALLOWED_HOSTS",
        _ANYWHERE,
        "host names that requests may be sent to ([http.md](http.md)); spaces between, in Flask commas",
        "",
        "--allowed-host",
    ),
    Setting(
        "ALLOWED_ORIGINS",
        _ANYWHERE,
        "other sites whose pages may run actions ([http.md](http.md)); spaces between, in Flask commas",
        "",
        "--allowed-origin",
    ),
    Setting(
        "INSPECTOR",
        _FLASK,
        "`True` shows the inspector of `ActionBus(app, inspector=True)` in production too, "
        "`False` nowhere ([inspector.md](inspector.md))",
        "where Flask debugs or tests",
    ),
    Setting("INSPECTOR_PREFIX", _FLASK, "where it is", "`/inspector`"),
    Setting(
        "INSPECTOR_URL",
        _ANYWHERE,
        "the address at which people find the inspector: problems, logs and JUnit reports lead to an action's page "
        "there ([inspector.md](inspector.md))",
        "in Flask where it is mounted; else they lead nowhere",
    ),
    Setting(
        "LOGS_URL",
        _ANYWHERE,
        "where an action's page leads for its logs, such as `https://logs.example/?q={correlation_id}` "
        "([inspector.md](inspector.md))",
    ),
    Setting("TRACE_URL", _ANYWHERE, "likewise for its trace, such as `https://traces.example/trace/{trace_id}`"),
    Setting(
        "JOBS",
        _FLASK,
        "the folder in which jobs are kept, with which the API has them too ([inspector.md](inspector.md))",
        "with the inspector `var/inspector`",
    ),
    Setting(
        "MOST_WAITING",
        _FLASK,
        "how many requests may wait for projections at a time, and half as many follow the journal",
        "4",
    ),
    Setting("REPLAY", _ENVIRONMENT, "the folder of a server for sandboxes", "`var/replay`"),
    Setting(
        "SANDBOX_URL",
        _ENVIRONMENT,
        "a PostgreSQL server for sandboxes, never the one with the journal",
        "one of the wheel's, else databases beside the journal's own",
        "--sandbox",
    ),
    Setting("EXPORTS", _ENVIRONMENT, "where the bundled library writes exports"),
    Setting("CACHE", _ENVIRONMENT, "where the local Elasticsearch is installed", "`actionbus` in the user's cache"),
    Setting("MAVEN_URL", _ENVIRONMENT, "a mirror that it is fetched from"),
    Setting("AS_CALLER", _ENVIRONMENT, "set for the commands of jobs that callers began: the checkpoint is asked"),
    Setting(
        "PROGRESS_FD", _ENVIRONMENT, "the number of an open file, in which long commands tell as JSON how far they are"
    ),
    Setting("TEST_DATABASE_URL", _ENVIRONMENT, "a PostgreSQL for the tests", "their own"),
    Setting("TEST_ELASTICSEARCH_URL", _ENVIRONMENT, "an Elasticsearch for the tests, which empty it", "their own"),
    Setting(
        "TEST_CHROMIUM", _ENVIRONMENT, "a Chromium for the tests", "one that is installed, else one that is fetched"
    ),
    Setting("TORTURE", _ENVIRONMENT, "set by `make torture`: tests run their long campaigns"),
)

_PAGE: Final = """# Settings

Each is read from the environment, from Flask's configuration, or from both; an option of the command line outdoes it.
A name that begins with `ACTIONBUS_` and is none of them is told of once, with the nearest.
Made of [adapters/settings.py](../adapters/settings.py) by `python -m actionbus.adapters.settings`.

| setting | read from | what | if left out |
|---|---|---|---|
{rows}
"""


def number(name: str, kind: Callable[[str], N], least: N, expected: str) -> N:
    """What `ACTIONBUS_name` says, or its default where it says nothing. Raises BadSetting saying what is `expected`."""
    default = next(each.default for each in SETTINGS if each.name == name)
    said = os.environ.get(f"ACTIONBUS_{name}") or default
    try:
        value = kind(said)
    except ValueError:
        value = None
    if value is None or not least <= value <= LARGEST:
        raise BadSetting(f"ACTIONBUS_{name} must be {expected}, not {said[:100]!r}; left out, it is {default}")
    return value


def truth(name: str, said: object) -> bool:
    """Whether a setting that is read from anywhere says yes; None is no. Raises BadSetting for what is neither."""
    word = "" if said is None else str(said).strip().lower()
    if word in {"1", "true", "yes", "on"}:
        return True
    if word in {"", "0", "false", "no", "off"}:
        return False
    raise BadSetting(f"ACTIONBUS_{name} must be true or false, not {word[:100]!r}")


def page() -> str:
    """The text of docs/settings.md."""
    return _PAGE.format(rows="\n".join(_row(each) for each in SETTINGS))


def _row(setting: Setting) -> str:
    names = f"`ACTIONBUS_{setting.name}`" + (f", `{setting.option}`" if setting.option else "")
    return f"| {names} | {', '.join(setting.read_from)} | {setting.meaning} | {setting.default} |"


if __name__ == "__main__":
    click.echo(page(), nl=False)
