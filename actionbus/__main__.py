"""`python -m actionbus` is the `actionbus` command."""

from actionbus.adapters.cli.process import program

if __name__ == "__main__":
    program()
