"""A package of actions that holds none."""
