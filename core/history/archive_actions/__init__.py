"""The actions by which history is archived, attached again and pruned, on record as any other."""
