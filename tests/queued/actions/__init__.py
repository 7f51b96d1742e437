"""One action per module."""
