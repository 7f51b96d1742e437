"""A small application for the framework's own tests; it knows nothing of the bundled one."""
