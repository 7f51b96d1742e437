"""Actions of the notes."""
