"""What a shell is told of `actionbus run` while it completes a line: read from files, with nothing of the application.

`main` takes it in the place of `run` then.
"""

from __future__ import annotations

import click

from actionbus.adapters.cli.declared_names import action_files, declared_in
from actionbus.adapters.cli.run_options import flag_of, options_of_lines, own_options


class _Actions(click.Group):
    """A command per action, as far as its name and options go."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(action_files(_application(ctx)))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        file = action_files(_application(ctx)).get(cmd_name)
        if file is None:
            return None
        told, arguments = declared_in(file)
        options = [click.Option([f"arg_{number}", flag_of(name)]) for number, name in enumerate(arguments)]
        return click.Command(cmd_name, params=[*options, *own_options()], help=told)


def _application(context: click.Context) -> str:
    return str(context.find_root().params["app_path"])


@click.group("run", cls=_Actions)
@options_of_lines
def run() -> None:
    """Never run."""
