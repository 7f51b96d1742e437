"""History between places: journals exported and imported, archives made, attached again and pruned."""
