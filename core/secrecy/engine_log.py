"""Keeps values out of SQLAlchemy's log (`echo=True`, `sqlalchemy.engine` at INFO) while an action holds secrets.

Installed by `storage.backend` on the logger of a bus's engine. Values are left out whole: SQLAlchemy shortens long
ones, and half a secret is not recognised. Statements stay, without the secrets that may be written out in them.
"""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import Engine

from actionbus.core.secrecy.scrubbing import active

_HIDDEN = "(values hidden: the action holds secrets)"


class _WithoutValues(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, changed where it has to be."""
        scrubber = active.get()
        if scrubber:
            record.msg = _HIDDEN if record.args else scrubber.text(str(record.msg))
            record.args = ()
        return True


_FILTER = _WithoutValues()


def keep_secrets_out(engine: Engine) -> None:
    """Filter what `engine` logs; again and again to no effect."""
    logger: Any = engine.logger
    # With `echo` the engine has a logger of its own, which writes through the named one.
    getattr(logger, "logger", logger).addFilter(_FILTER)
