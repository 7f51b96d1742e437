"""`python -m actionbus` is the `actionbus` command."""

from actionbus.adapters.cli.main import main

if __name__ == "__main__":
    main()
