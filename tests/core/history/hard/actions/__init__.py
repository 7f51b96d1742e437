"""Actions of the hard application."""
