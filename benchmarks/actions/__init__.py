"""The one action of the benchmark."""
