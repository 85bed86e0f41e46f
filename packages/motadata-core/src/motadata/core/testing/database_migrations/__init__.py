"""The table that `motadata.core.testing.database` works on."""
