"""The gateway's tables; `motadata.core.database.apply_migrations` runs these files."""
