"""The inspector as a WSGI application, to be mounted anywhere. Needs `actionbus[flask]`."""

from actionbus.adapters.inspector.mounting import inspector_app

__all__ = ["inspector_app"]
