"""subscribe: its one argument names the subject itself."""

from actionbus import ActionHandler, Arg


class Subscribe(ActionHandler):
    """Do nothing."""

    arguments = {
        "email": Arg(str, default="nobody@example.com", personal=True),
        "friend_id": Arg(int, default=lambda: 4321),
        "friend": Arg(str, default="Grace Hopper", personal="friend_id"),
    }

    def execute(self) -> None:
        return None
