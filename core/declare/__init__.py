"""Declarations: what an application says of itself, and the registry that checks it. Runs nothing."""
