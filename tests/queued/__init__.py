"""A small application for tests of the queue: what its actions declare, and little else."""
