"""The command line, `actionbus`: one file per group of commands, `main` puts them together."""
