"""What the inn can do in a later release."""
