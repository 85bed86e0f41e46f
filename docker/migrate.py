"""Apply the migrations of every installed component, as the owner of the tables, and end."""
# ruff: noqa: INP001, T201 - a script of the image, whose output is what people read

from __future__ import annotations

import asyncio
import os
import sys

from motadata.core.database import apply_migrations
from motadata.core.errors import SDKError
from motadata.core.platform import create_platform


async def main() -> None:
    """Apply what is new and print it."""
    owner_url = os.environ["MOTADATA_DATABASE_OWNER_URL"]
    packages = create_platform().migrations
    applied = await apply_migrations(
        owner_url, packages, runtime_role=os.environ["MOTADATA_RUNTIME_ROLE"]
    )
    for migration in applied:
        print(f"applied {migration.package}/{migration.name}")
    print(f"{len(applied)} migrations applied, the rest was there already")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except SDKError as error:
        sys.exit(f"{error.code}: {error}")
