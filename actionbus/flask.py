"""Flask: the extension, the gateway for views, the generated HTTP API; see docs/http.md. Needs `actionbus[flask]`."""

from actionbus.adapters.flask import ActionBus, Authenticate, current_bus, provide_action_runner, share_session

__all__ = ["ActionBus", "Authenticate", "current_bus", "provide_action_runner", "share_session"]
