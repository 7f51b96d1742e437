"""Adapters translate between the world and the bus: databases, the command line, the bundled application's parts."""
