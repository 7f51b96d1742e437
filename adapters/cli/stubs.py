"""`actionbus stubs`: a module from which type checkers know arguments and results of an application's actions.

It is made from what handlers declare, so that nothing is written twice; `--check` tells where it has grown old.
"""

from __future__ import annotations

from pathlib import Path

import click

from actionbus.adapters.cli.common import Environment, pass_environment
from actionbus.adapters.cli.printing import FAILED, USAGE, fail, say
from actionbus.adapters.typed_module import typed_module


@click.command()
@click.option(
    "--check",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Print nothing; exit with 1 unless FILE is what would be printed.",
)
@pass_environment
def stubs(env: Environment, check: Path | None) -> None:
    """Print a Python module that tells type checkers about the actions.

    \b
    actionbus --app shop.app:app stubs > shop/typed.py
    actionbus --app shop.app:app stubs --check shop/typed.py

    A handler says `args: AddAssetArgs`, imported `if TYPE_CHECKING`; callers say `typed(bus.runner(…)).execute(…)`.
    """
    env.tell_default()
    made = typed_module(env.application.name, env.registry)
    if check is None:
        click.echo(made, nl=False)
        return
    try:
        found = check.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise fail(f"{check} cannot be read: {error}", USAGE) from None
    if found != made:
        raise fail(f"{check} is not what the actions declare now; `actionbus stubs > {check}` renews it", FAILED)
    say(f"{check} is what the actions declare")
