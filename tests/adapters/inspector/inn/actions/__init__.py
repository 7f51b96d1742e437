"""What the inn can do."""
