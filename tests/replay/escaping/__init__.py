"""Actions that try to leave a sandbox."""
