"""Actions that race."""
