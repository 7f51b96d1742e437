"""Storage: the journal and the runs in PostgreSQL and SQLite; the only room with SQL of the write path."""
