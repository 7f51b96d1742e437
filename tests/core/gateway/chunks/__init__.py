"""Many actions to a transaction: each of them as if alone."""
