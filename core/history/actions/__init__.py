"""The action by which the history is changed, on record as any other; run by `Bus.erase`."""
