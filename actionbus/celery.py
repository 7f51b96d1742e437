"""Celery as the broker of queued actions; see docs/queue.md. Needs `actionbus[celery]`."""

from actionbus.adapters.celery import CeleryBroker

__all__ = ["CeleryBroker"]
