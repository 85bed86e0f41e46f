"""Leaves the tests of drivers out where core stands bare, to show that it stays light."""

from __future__ import annotations

from importlib.util import find_spec


collect_ignore_glob: list[str] = []
if find_spec("asyncpg") is None:
    collect_ignore_glob += ["test_database*.py", "test_migrations*.py", "test_embedded*.py"]
if find_spec("nats") is None:
    collect_ignore_glob += ["test_messaging*.py", "test_embedded_nats*.py"]
if find_spec("redis") is None:
    collect_ignore_glob += [
        "test_redis*.py",
        "test_embedded_redis*.py",
        "test_resilience_shared*.py",
    ]
if find_spec("ormsgpack") is None or find_spec("msgspec") is None:
    collect_ignore_glob += ["test_codec_fast*.py"]
if find_spec("google") is None or find_spec("google.protobuf") is None:
    collect_ignore_glob += ["test_codec_protobuf*.py"]
