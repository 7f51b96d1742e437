"""Intent: what a caller asked for, in the form the submitted record keeps it. Made by the runner before anything else.

Whatever was sent becomes JSON text here: sensitive values left out, and what cannot be written down summarised, with
the reason kept for the caller in `problem`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from actionbus.core.declare.registry import Action
from actionbus.core.errors import WHOLE_ACTION, InvalidArguments, LimitExceeded
from actionbus.core.secrecy.scrubbing import Scrubber
from actionbus.core.values import payload
from actionbus.core.values.limits import Limits

KEY_LENGTH = 200
MOST_UNKNOWN = 64


class Intent(NamedTuple):
    """`text` goes into the journal; `values` are what the schema loads, sensitive ones included."""

    name: str
    text: str
    values: dict[str, Any]
    problem: InvalidArguments | None
    idempotency_key: str | None


def intent_of(
    name: Any, arguments: Any, key: str | None, action: Action | None, limits: Limits, scrubber: Scrubber
) -> Intent:
    """The intent of a call, whatever was passed. `action` is None when there is none of that name."""
    errors: payload.Problems = {}
    accepted_key = _checked_key(key, errors)
    shown_name = action.name if action else payload.printable_text(name)
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, Mapping) or not _has_names(arguments):
        errors[WHOLE_ACTION] = ["the arguments must be an object: a mapping of names to values"]
        text = payload.dumps({"$summary": {"kind": type(arguments).__name__}})
        return Intent(shown_name, text, {}, InvalidArguments(dict(errors)), accepted_key)
    kept, values, too_much = _kept(arguments, action, limits, scrubber, errors)
    if scrubber:
        kept = scrubber.arguments(kept, action.handler.arguments if action else ())
    text = payload.dumps(kept)
    if payload.suspicious(text):
        _refuse_unstorable(values, errors)
    if len(text) > limits.arguments_bytes:
        too_much = f"{len(text)} bytes of JSON, more than the {limits.arguments_bytes} that are allowed"
        errors[WHOLE_ACTION] = [f"the arguments are too large: {too_much}"]
    if too_much:
        text = payload.dumps(payload.summary(arguments, len(text)))
    problem = (LimitExceeded if too_much else InvalidArguments)(dict(errors)) if errors else None
    return Intent(shown_name, text, values, problem, accepted_key)


def _has_names(arguments: Mapping[Any, Any]) -> bool:
    return not [name for name in arguments if not isinstance(name, str)]


def _kept(
    arguments: Mapping[str, Any], action: Action | None, limits: Limits, scrubber: Scrubber, errors: payload.Problems
) -> tuple[dict[str, Any], dict[str, Any], str | None]:
    """What the journal keeps, what the schema gets, and which limit was passed, if one was."""
    declared = action.handler.arguments if action else {}
    sensitive = action.sensitive if action else frozenset()
    kept: dict[str, Any] = {}
    values: dict[str, Any] = {}
    too_much = None
    if sensitive:
        unknown = [name for name in arguments if name not in declared]
        if len(unknown) > MOST_UNKNOWN:
            # Nothing of them is kept, and the action does not run. To look for each in every text would take for ever.
            too_much = f"{len(unknown)} arguments that are not declared"
            errors[WHOLE_ACTION] = [f"there are {too_much}; at most {MOST_UNKNOWN} are looked at"]
            arguments = {name: value for name, value in arguments.items() if name in declared}
        else:
            scrubber.remember([arguments[name] for name in unknown])
    for name, value in arguments.items():
        if name in sensitive:
            scrubber.remember(value)
        try:
            values[name] = kept[name] = payload.primitive(value, limits, depth=2)
        except (payload.TooDeep, RecursionError):
            kept[name], values[name] = payload.REDACTED, None
            too_much = f"nested deeper than {limits.depth} levels"
            errors[name] = [too_much]
        except payload.Unencodable as why:
            kept[name], values[name] = {"$unencodable": type(value).__name__}, None
            errors[name] = [str(why)]
        if name in sensitive or name not in declared:
            kept[name] = payload.REDACTED
            if payload.unstorable_text(values[name]):
                _refuse_unstorable({name: values[name]}, errors)
    return kept, values, too_much


def _refuse_unstorable(values: Mapping[str, Any], errors: payload.Problems) -> None:
    for name, value in values.items():
        why = payload.unstorable_text(name) or payload.unstorable_text(value)
        if why:
            errors.setdefault(name, []).append(why)


def _checked_key(key: Any, errors: payload.Problems) -> str | None:
    if key is None:
        return None
    if isinstance(key, str) and 0 < len(key) <= KEY_LENGTH and key.isprintable():
        return key
    errors["idempotency_key"] = [f"must be 1 to {KEY_LENGTH} printable characters"]
    return None
