"""Flask: the gateway for views, and a generated HTTP API. Needs `actionbus[flask]`.

ActionBus(app, application=shop, authenticate=who)     # the extension; the API is at /actions, /search, /docs, …

@app.post("/kits")
@provide_action_runner
def create_kit() -> ResponseReturnValue:
    return g.action_runner.execute("create_kit", request.get_json()).result
"""

try:
    import apispec  # noqa: F401
    import flask  # noqa: F401
except ImportError as error:  # pragma: no cover - depends on the installation
    raise ImportError("HTTP needs the extra: pip install 'actionbus[flask]'") from error

from actionbus.adapters.flask.extension import ActionBus
from actionbus.adapters.flask.sqlalchemy import share_session
from actionbus.adapters.flask.state import Authenticate, current_bus, provide_action_runner

__all__ = ["ActionBus", "Authenticate", "current_bus", "provide_action_runner", "share_session"]
