"""Calls that are postponed until the commit: `outside(…, after_commit=True)`."""
