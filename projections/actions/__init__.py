"""Actions of operators that come with every application that has projections."""
