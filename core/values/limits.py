"""How large an action's payloads may be; an Application carries one `Limits`."""

from __future__ import annotations

from dataclasses import dataclass, fields

from actionbus.core.values.public import public


@public
@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds checked at the gateway. Sizes are bytes of JSON text, which is ASCII."""

    arguments_bytes: int = 1_048_576
    depth: int = 32
    """How many lists and dicts may lie inside each other, the arguments themselves being the first."""
    digits: int = 1_000
    """Decimal digits of a whole number."""
    context_bytes: int = 16_384
    result_bytes: int = 4_194_304
    call_bytes: int = 65_536
    """A recorded outside call with a larger argument list or return is kept as `opaque`."""
    calls: int = 10_000
    """Recorded calls per action; later ones are counted, not kept."""

    def problems(self) -> list[str]:
        """What is wrong with it."""
        given = ((each.name, getattr(self, each.name)) for each in fields(self))
        return [
            f"limits: `{name}` must be a whole number from 1 up, not {value!r}"
            for name, value in given
            if type(value) is not int or value < 1
        ]
