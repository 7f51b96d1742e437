"""Every setting that is read from the environment or from Flask's configuration; docs/settings.md is made of this.

`python -m actionbus.adapters.settings > docs/settings.md` writes the page anew; the tests hold both together, and see
that no other name is read anywhere.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import click

ENVIRONMENT: Final = "environment"
FLASK: Final = "Flask"


class Setting(NamedTuple):
    """A name without `ACTIONBUS_`, where it is read from, what it says, and the option that outdoes it."""

    name: str
    read_from: tuple[str, ...]
    meaning: str
    default: str = ""
    option: str = ""


_ANYWHERE: Final = (ENVIRONMENT, FLASK)
_ENVIRONMENT: Final = (ENVIRONMENT,)
_FLASK: Final = (FLASK,)

SETTINGS: Final = (
    Setting("APP", _ENVIRONMENT, "`module:attribute` of the Application", "the bundled library", "--app"),
    Setting(
        "DATABASE_URL", _ANYWHERE, "the database's URL", "`sqlite:///var/library.db`; in Flask "
        "`SQLALCHEMY_DATABASE_URI`", "--database",
    ),
    Setting("SCHEMA", _ANYWHERE, "the schema of the journal, on PostgreSQL", "where `search_path` leads", "--schema"),
    Setting("ACTOR", _ENVIRONMENT, "who acts, for `actionbus run`", "nobody", "--actor"),
    Setting("RELEASE", _ENVIRONMENT, "the application's version or git revision, written on every record"),
    Setting("LOG_FORMAT", _ENVIRONMENT, "`text` or `json`", "`text`", "--log-format"),
    Setting("BROKER_URL", _ANYWHERE, "where queued actions go, such as `redis://localhost`", "none", "--broker"),
    Setting("REDELIVER_AFTER", _ENVIRONMENT, "seconds until a message that nobody picked up is sent again; doubled "
            "every time", "60"),
    Setting("ATTEMPTS", _ENVIRONMENT, "how many times a queued action is tried", "10"),
    Setting(
        "ELASTICSEARCH_URL", _ANYWHERE, "where documents are kept: a URL, or `embedded` for the application's own "
        "database", "the local server if it runs, else `embedded`", "--elasticsearch",
    ),
    Setting("ELASTICSEARCH_PREFIX", _ENVIRONMENT, "what all names there begin with, such as `staging-`"),
    Setting("ELASTICSEARCH_API_KEY", _ENVIRONMENT, "the key to be let in with"),
    Setting("ELASTICSEARCH_CA_CERTS", _ENVIRONMENT, "the file of certificates that its own is checked with"),
    Setting("AUTHENTICATE", _ENVIRONMENT, "`module:function` that says who sends a request, or `none`, for "
            "`actionbus serve`", "", "--authenticate"),
    Setting("API", _FLASK, "`False` leaves the generated API out", "`True`"),
    Setting("URL_PREFIX", _FLASK, "where it is mounted, such as `/api/v1`"),
    Setting("ALLOWED_HOSTS", _ANYWHERE, "host names that requests may be sent to ([http.md](http.md)); spaces "
            "between, in Flask commas", "", "--allowed-host"),
    Setting("ALLOWED_ORIGINS", _ANYWHERE, "other sites whose pages may run actions ([http.md](http.md)); spaces "
            "between, in Flask commas", "", "--allowed-origin"),
    Setting("MOST_WAITING", _FLASK, "how many requests may wait for projections at a time", "4"),
    Setting("REPLAY", _ENVIRONMENT, "the folder of a server for sandboxes", "`var/replay`"),
    Setting("SANDBOX_URL", _ENVIRONMENT, "a PostgreSQL server for sandboxes, never the one with the journal", "one of "
            "the wheel's, else databases beside the journal's own", "--sandbox"),
    Setting("EXPORTS", _ENVIRONMENT, "where the bundled library writes exports"),
    Setting("CACHE", _ENVIRONMENT, "where the local Elasticsearch is installed", "`actionbus` in the user's cache"),
    Setting("MAVEN_URL", _ENVIRONMENT, "a mirror that it is fetched from"),
    Setting("TEST_DATABASE_URL", _ENVIRONMENT, "a PostgreSQL for the tests", "their own"),
    Setting("TEST_ELASTICSEARCH_URL", _ENVIRONMENT, "an Elasticsearch for the tests, which empty it", "their own"),
    Setting("TORTURE", _ENVIRONMENT, "set by `make torture`: tests run their long campaigns"),
)  # fmt: skip

_PAGE: Final = """# Settings

Each is read from the environment, from Flask's configuration, or from both; an option of the command line outdoes it.
Made of [adapters/settings.py](../adapters/settings.py) by `python -m actionbus.adapters.settings`.

| setting | read from | what | if left out |
|---|---|---|---|
{rows}
"""


def page() -> str:
    """docs/settings.md."""
    return _PAGE.format(rows="\n".join(_row(each) for each in SETTINGS))


def _row(setting: Setting) -> str:
    names = f"`ACTIONBUS_{setting.name}`" + (f", `{setting.option}`" if setting.option else "")
    return f"| {names} | {', '.join(setting.read_from)} | {setting.meaning} | {setting.default} |"


if __name__ == "__main__":
    click.echo(page(), nl=False)
