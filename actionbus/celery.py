"""Celery as the broker of queued actions; see docs/queue.md. Needs `actionbus[celery]`."""

from actionbus.adapters.celery import CeleryQueue

__all__ = ["CeleryQueue"]
