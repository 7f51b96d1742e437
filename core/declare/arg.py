"""Arg declares one argument of an action; `build_schema` makes the schema of all, which the runner loads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from marshmallow import RAISE, Schema, ValidationError, fields, validate

from actionbus.core.declare.arg_types import field_for
from actionbus.core.declare.asynchronous import async_problem, refuse_awaitable
from actionbus.core.declare.given import shown
from actionbus.core.errors import Misuse
from actionbus.core.values import payload
from actionbus.core.values.limits import Limits
from actionbus.core.values.public import public


class _Missing:
    def __repr__(self) -> str:
        return "<no default>"


MISSING: Final = _Missing()
"""Tells an Arg without a default from one whose default is None."""


@public
class Arg(NamedTuple):
    """One declared argument.

    `type` is a Python type (str, int, float, bool, Decimal, datetime, date, time, timedelta, UUID, an Enum, list[T],
    dict), a Marshmallow field, or a Marshmallow Schema. Without `required` and `default` it is None when left out,
    and only then is null accepted. A callable default is called once per action.
    """

    type: Any = str
    required: bool = False
    default: Any = MISSING
    options: Sequence[Any] | None = None
    validator: Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None = None
    many: bool = False
    """A list of `type`."""
    sensitive: bool = False
    """Kept out of journal, logs and errors."""
    personal: bool | str = False
    """Data about a subject, whose id the argument of this name has, or the result; True: about whom the value itself
    names. It is kept encrypted, until the subject is erased."""
    description: str = ""

    @property
    def has_default(self) -> bool:
        """Whether a default was declared, None included."""
        return self.default is not MISSING

    @property
    def nullable(self) -> bool:
        """Whether null is accepted: where it is optional and has no default."""
        return not self.required and (not self.has_default or self.default is None)


def build_schema(name: str, arguments: Mapping[str, Arg]) -> Schema:
    """The schema of an action's Args. Raises TypeError or ValueError for an Arg that cannot be used."""
    made: dict[str, fields.Field[Any]] = {}
    for field, arg in arguments.items():
        try:
            made[field] = _field(arg)
        except (TypeError, ValueError, ValidationError, Misuse) as error:
            raise ValueError(f"argument {field!r}: {error}") from None
    return Schema.from_dict(cast("dict[str, Any]", made), name=f"{name}_arguments")(unknown=RAISE)


def _field(arg: Arg) -> fields.Field[Any]:
    for name in ("required", "many", "sensitive"):
        if type(getattr(arg, name)) is not bool:
            raise TypeError(f"`{name}` must be True or False, not {shown(getattr(arg, name))}")
    if arg.options is not None and (isinstance(arg.options, (str, bytes)) or not isinstance(arg.options, Collection)):
        raise TypeError(f"`options` must be a list of values, not {shown(arg.options)}")
    if arg.description is not None and not isinstance(arg.description, str):
        raise TypeError(f"`description` must be a text, not {shown(arg.description)}")
    field = fields.List(field_for(arg.type)) if arg.many else field_for(arg.type)
    field.validators = [*field.validators, *_validators(arg, field)]
    field.required = arg.required
    field.allow_none = arg.nullable
    if arg.required and arg.has_default:
        raise ValueError("is required, so its default can never be used; remove one of the two")
    if not arg.required:
        field.load_default = arg.default if arg.has_default else None
    _check_default(arg, field)
    return field


def _validators(arg: Arg, field: fields.Field[Any]) -> list[Callable[[Any], Any]]:
    given = arg.validator
    several = given if isinstance(given, (list, tuple)) else () if given is None else (given,)
    found = [_checked(each) for each in several]
    if arg.options is not None:
        if not arg.options:
            raise ValueError("options is empty, so no value could ever be accepted")
        one_of = validate.OneOf(list(arg.options), error="must be one of: {choices}")
        found.append(_each(one_of) if isinstance(field, fields.List) else one_of)
    return found


def _each(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def check_each(values: Sequence[Any]) -> None:
        for value in values:
            check(value)

    return check_each


def _checked(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A plain callable refuses by raising ValidationError or ValueError, or by returning False."""
    if isinstance(check, validate.Validator):
        return check
    if not callable(check):
        raise TypeError(f"a validator must be callable, not {check!r}")
    if problem := async_problem(check, "its validator"):
        raise TypeError(problem[0])

    def run(value: Any) -> None:
        try:
            accepted = refuse_awaitable(check(value), "a validator")
        except ValidationError:
            raise
        except ValueError as error:
            raise ValidationError(str(error) or "Invalid value.") from None
        if accepted is False:
            raise ValidationError("Invalid value.")

    return run


def _check_default(arg: Arg, field: fields.Field[Any]) -> None:
    if problem := async_problem(arg.default, "its default") if callable(arg.default) else []:
        raise TypeError(problem[0])
    if not arg.has_default or arg.default is None or callable(arg.default):
        return
    if isinstance(arg.default, (list, dict, set, bytearray)):
        raise ValueError(f"the default {arg.default!r} would be shared by all calls; give a factory, such as `list`")
    try:
        loaded = field.deserialize(payload.primitive(arg.default, Limits()))
    except ValidationError as error:
        raise ValueError(f"the default {arg.default!r} is not valid: {error.messages}") from None
    if loaded != arg.default:
        raise ValueError(f"the default {arg.default!r} is not of the declared type; it would load as {loaded!r}")
