"""The inspector: an application's history in a browser, read through the public read API. Needs `actionbus[flask]`.

`actionbus inspect` serves it on the loopback interface for whoever has the database; `ActionBus(app, inspector=True)`
puts it into a Flask app; `actionbus.inspector.inspector_app` makes a WSGI application, to be mounted anywhere.
"""

try:
    import flask  # noqa: F401
except ImportError as error:  # pragma: no cover - depends on the installation
    raise ImportError("the inspector needs the extra: pip install 'actionbus[flask]'") from error
