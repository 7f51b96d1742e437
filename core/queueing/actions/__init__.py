"""What operators decide about queued actions, and what a scheduler does: each an action on record."""
