"""Adapters translate between the world and the bus: databases, the command line, the bundled application's parts."""

if __name__ != "actionbus.adapters":
    raise ImportError(f"{__name__!r} is part of actionbus: import it as actionbus.adapters")
