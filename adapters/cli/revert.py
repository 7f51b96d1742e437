"""`actionbus revert`: put back what one action changed, as an action on record."""

from __future__ import annotations

import click

from actionbus.adapters.cli.common import Environment, is_operator, json_option, pass_environment, print_json
from actionbus.adapters.cli.printing import REJECTED, say
from actionbus.adapters.json_views import described_outcome
from actionbus.core import InvalidArguments, RevertConflict


@click.command()
@click.argument("action_id", metavar="ACTION", type=click.UUID)
@click.option("--actor", envvar="ACTIONBUS_ACTOR", show_envvar=True, help="Who does it, for the record.")
@click.option("--idempotency-key", metavar="KEY", help="Take effect once per key.")
@json_option
@pass_environment
def revert(env: Environment, action_id: object, actor: str | None, idempotency_key: str | None, as_json: bool) -> None:
    """Put back the rows that one action, and those nested in it, changed: `actionbus show ACTION` shows which.

    \b
    Nothing is changed where rows moved on since, or cannot be put back whole: each is named, exit code 3.
    The revert is an action itself: `actionbus revert` of its id takes it back.
    """
    bus = env.bus
    bus.journal.require()
    try:
        runner = bus.runner(actor, operator=is_operator())
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--actor") from None
    try:
        outcome = runner.revert(str(action_id), idempotency_key=idempotency_key)
    except InvalidArguments as error:
        _explain(error, as_json=as_json)
        raise SystemExit(REJECTED) from None
    if as_json:
        print_json(described_outcome(outcome))
        return
    counted = ", ".join(f"{count} of {table}" for table, count in outcome.result["rows"].items())
    say(f"{outcome.status}  action {outcome.action_id}  position {outcome.position}")
    say(f"{outcome.result['action']} is reverted: {counted}")
    for column in outcome.result.get("withheld", ()):
        say(("note:", "yellow"), f" {column} is withheld from history, and stands as it is", stderr=True)


def _explain(error: InvalidArguments, *, as_json: bool) -> None:
    conflicts = [each._asdict() for each in error.conflicts] if isinstance(error, RevertConflict) else []
    told = error.errors.get("action_id") or [str(error)]
    if as_json:
        print_json({"status": "rejected", "action_id": error.action_id, "errors": told, "conflicts": conflicts})
        return
    say(("rejected", "yellow"), "; nothing was changed", stderr=True)
    for each in told:
        say(f"  {each}", stderr=True)
