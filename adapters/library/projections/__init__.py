"""Read models of the bundled digital asset library."""
