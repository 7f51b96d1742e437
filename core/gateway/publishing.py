"""Messages for queued actions: made of a run's row, and sent once it is committed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from actionbus.core.declare.broker import Message
from actionbus.core.declare.registry import Action
from actionbus.core.errors import WHOLE_ACTION, BrokerUnavailable, InvalidArguments
from actionbus.core.gateway.services import Services
from actionbus.core.gateway.transaction import QueuedAction
from actionbus.core.storage.runs import Run

log = logging.getLogger("actionbus")
RETRY_PUBLISHING_S: Final = 5.0
"""After the broker did not take a message."""


def message_of(run: Run) -> Message:
    """The message for an action that is queued."""
    return Message(run.action_id, run.action, run.queue)


def refuse_secrets(action: Action) -> None:
    """Raise InvalidArguments for an action with sensitive arguments, which nothing keeps until a worker comes."""
    if action.sensitive:
        names = ", ".join(sorted(action.sensitive))
        raise InvalidArguments(
            {WHOLE_ACTION: [f"{action.name} takes secrets ({names}), so it cannot be queued; call it with execute()"]}
        )


def publish(services: Services, message: Message, connection: Connection) -> str | None:
    """Send a message for a queued action; why not, if the broker does not take it: then it is sent again later.

    Raises nothing: the action is queued, whatever becomes of its message.
    """
    try:
        services.broker.publish(message)
    except Exception as error:
        # Of what was not foreseen the type alone: a broker's URL, which its message may quote, holds a password.
        foreseen = isinstance(error, BrokerUnavailable)
        problem = str(error) if foreseen else f"the broker's library raised {type(error).__name__}"
        log.warning("%s stays queued, action %s: %s", message.action, message.action_id, problem)
        _send_again(services, message, connection)
        return problem
    return None


def publish_queued(services: Services, queued: Sequence[QueuedAction], connection: Connection) -> list[UUID]:
    """Send the messages for what a committed action has queued; what of it is run by this process at once."""
    for each in queued:
        if each.message:
            publish(services, each.message, connection)
    return [each.withdrawn.action_id for each in queued if each.at_once]


def _send_again(services: Services, message: Message, connection: Connection) -> None:
    try:
        services.runs.send_again(message.action_id, RETRY_PUBLISHING_S, connection)
    except Exception as error:
        # Its row has a time for the next message already.
        log.warning("the message for action %s is sent again later than it could be: %s", message.action_id, error)
