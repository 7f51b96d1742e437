"""Queueing: actions that wait for a worker, and how a worker runs them."""
