"""Notes: an application whose state is its projections, for testing them."""
