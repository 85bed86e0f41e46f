"""The check of the house finds every way to spell a key, a subject or a channel by hand."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest


TOOLS = Path(__file__).resolve().parent.parent / "tools"
MODULE = "motadata/rag/_planted.py"

PLANTED = [
    'key = f"cache:{{{tenant}}}:{key}"',
    'key = f"cache-index:{name}"',
    'key = "cache:" + name',
    'key = "cache:%s:%s" % (name, key)',
    'key = "cache:{}:{}".format(name, key)',
    'key = f"{prefix}:{tenant}:{key}"',
    'key = f"{tenant_id}:{key}"',
    'key = f"rag/{self._tenant}/answers"',
    'key = f"{str(tenant)}:{key}"',
    'key = f"{TenantId(name)}.{key}"',
    'key = tenant + ":" + key',
    'key = prefix + ":" + tenant_id',
    'key = ":".join((tenant, key))',
    'key = "-".join([kind, request.tenant_id])',
    'key = "%s:%s" % (tenant, key)',
    'key = "{}:{}".format(tenant, key)',
    'key = "{t}:{k}".format(t=tenant, k=key)',
    'subject = f"sdk.events.{kind}.{name}"',
    'subject = "sdk.agent.*." + name',
    'subject = f"{base}.{tenant}"',
    'pattern = f"{tenant}*"',
    'limit = f"limit:{{{name}}}"',
    'breaker = "breaker:" + name',
    'connection.execute("LISTEN " + channel)',
    'connection.execute(f"notify {channel}")',
]
INNOCENT = [
    'message = f"The tenant {tenant!r} has no budget."',
    'message = f"{tenant_id} has no keys."',
    'message = f"No document of {tenant}: ingest one."',
    'sql = f"select * from {table} where tenant_id = $1"',
    'name = f"{namespace}:{digest}"',
    'text = "caches forget"',
    'url = f"{base}/documents/{document_id}"',
    "count = tenants + 1",
    '"""cache:{tenant}:key and sdk.events.x are told about here."""',
]


@pytest.fixture(scope="module")
def key_rules() -> ModuleType:
    spec = importlib.util.spec_from_file_location("key_rules", TOOLS / "key_rules.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("line", PLANTED)
def test_a_name_that_is_spelled_by_hand_is_found(key_rules: ModuleType, line: str):
    assert list(key_rules.hand_built(MODULE, ast.parse(line)))


@pytest.mark.parametrize("line", INNOCENT)
def test_other_text_is_left_alone(key_rules: ModuleType, line: str):
    assert not list(key_rules.hand_built(MODULE, ast.parse(line)))


def test_the_one_constructors_may_spell_names(key_rules: ModuleType):
    for builder in key_rules.BUILDERS:
        assert not list(key_rules.hand_built(builder, ast.parse(PLANTED[0])))


def test_every_exception_is_a_module_that_exists(key_rules: ModuleType):
    packages = TOOLS.parent / "packages"
    for builder in key_rules.BUILDERS:
        assert list(packages.glob(f"*/src/{builder}")), builder


def test_no_module_of_the_sdk_spells_a_name_by_hand():
    checked = subprocess.run(
        [sys.executable, str(TOOLS / "check_house.py")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "by hand" not in checked.stdout
    assert not checked.stderr
