"""Actions of the shelf."""
