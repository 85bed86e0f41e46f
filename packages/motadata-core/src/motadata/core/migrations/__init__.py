"""Core's own migrations: the schema, the vector extension and `motadata.isolate`."""
