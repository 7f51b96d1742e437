"""The default `serializer`: turns what a handler returns into JSON values. Applications may provide their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

_AS_THEY_ARE: Final = frozenset({str, int, float, bool, type(None)})
"""Most values of most results: nothing is asked about them."""


class Serializer:
    """Opens dataclasses; dates, UUIDs, Decimals and Enums take their usual text when the payload is written."""

    def dump(self, value: Any) -> Any:
        """`value` without dataclasses; anything that then has no JSON form fails the action."""
        if type(value) in _AS_THEY_ARE:
            return value
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {each.name: self.dump(getattr(value, each.name)) for each in dataclasses.fields(value)}
        if isinstance(value, Mapping):
            return {key: self.dump(each) for key, each in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.dump(each) for each in value]
        return value
