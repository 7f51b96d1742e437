"""`actionbus completion`: a script that completes commands, action names and options in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that completes commands, names of actions and their options.

    \b
    bash:  eval "$(actionbus completion bash)"       in ~/.bashrc
    zsh:   eval "$(actionbus completion zsh)"        in ~/.zshrc
    fish:  actionbus completion fish > ~/.config/fish/completions/actionbus.fish

    The actions are those of ACTIONBUS_APP, or of --app on the line that is completed.
    """
    maker = get_completion_class(shell)
    assert maker is not None
    click.echo(maker(context.find_root().command, {}, "actionbus", "_ACTIONBUS_COMPLETE").source())
