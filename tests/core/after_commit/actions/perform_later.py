"""perform_later: has the name of what makes the calls of a dependency called `later`."""

from actionbus import ActionHandler


class PerformLater(ActionHandler):
    """Do nothing."""

    def execute(self) -> None:
        """Do nothing."""
