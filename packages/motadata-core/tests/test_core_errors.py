from __future__ import annotations

import inspect
import pickle
import re
from collections.abc import Iterator

import pytest

from motadata.core import errors
from motadata.core.errors import (
    DatabaseError,
    GatewayError,
    MissingExtraError,
    RateLimitError,
    SDKError,
)


def tree(kind: type[SDKError] = SDKError) -> Iterator[type[SDKError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


def drawn(kind: type[SDKError], indent: str = "") -> list[str]:
    """Draw the tree below a class as the package's docstring does, whose order is its own."""
    children = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    children.sort(key=lambda child: (errors.__doc__ or "").find(f" {child.__name__}\n"))
    lines = []
    for child in children:
        last = child is children[-1]
        lines.append(f"{indent}{'└── ' if last else '├── '}{child.__name__}")
        lines.extend(drawn(child, indent + ("    " if last else "│   ")))
    return lines


def test_docstring_draws_the_tree_that_is_there() -> None:
    block = re.search(r"```\n(.*?)```", inspect.getdoc(errors) or "", re.DOTALL)

    assert block is not None
    assert block.group(1).splitlines() == ["SDKError", *drawn(SDKError)]


def test_package_exports_every_error_and_nothing_else() -> None:
    assert sorted(errors.__all__) == sorted(kind.__name__ for kind in tree())


def test_every_error_is_known_by_the_name_by_which_it_is_imported() -> None:
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert f"{kind.__module__}.{kind.__qualname__}" == f"motadata.core.errors.{name}"


def test_every_error_of_the_module_is_an_sdk_error() -> None:
    classes = [
        item
        for _, item in inspect.getmembers(errors, inspect.isclass)
        if item.__module__ == errors.__name__
    ]

    assert set(classes) == set(tree())


def test_codes_are_unique_and_machine_readable() -> None:
    codes = [kind.code for kind in tree()]

    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[a-z][a-z_]*", code) for code in codes)


@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.__name__)
def test_every_error_says_when_it_is_raised_and_where_it_belongs(kind: type[SDKError]) -> None:
    assert kind.__doc__
    assert kind.component


@pytest.mark.parametrize(
    "name",
    [
        *("AgentError", "AgentConfigurationError", "AgentExecutionError"),
        *("AgentCommunicationError", "RAGError", "DocumentProcessingError", "RetrievalError"),
        *("GatewayError", "ProviderError", "RateLimitError", "ValidationError"),
        *("DatabaseError", "ConnectionError", "QueryError"),
    ],
)
def test_promised_error_is_there(name: str) -> None:
    assert issubclass(getattr(errors, name), SDKError)


def test_message_ends_with_the_remedy() -> None:
    error = SDKError("The key 'x' is bad.", remedy="Use another.")

    assert str(error) == "The key 'x' is bad. Use another."
    assert error.remedy == "Use another."


def test_retryable_is_the_class_s_unless_said_otherwise() -> None:
    assert SDKError("x").retryable is False
    assert errors.ConnectionError("x").retryable is True
    assert errors.ConnectionError("x", retryable=False).retryable is False
    assert SDKError("x", retryable=True).retryable is True


def test_missing_extra_says_what_to_install() -> None:
    error = MissingExtraError("asyncpg", extra="postgres", distribution="motadata-core")

    assert "pip install 'motadata-core[postgres]'" in str(error)
    assert error.extra == "postgres"


def test_rate_limit_says_how_long_to_wait() -> None:
    error = RateLimitError("Too fast.", retry_after=2.5, tenant_id="acme")

    assert error.retry_after == 2.5
    assert error.tenant_id == "acme"
    assert isinstance(error, GatewayError)


def test_ours_do_not_hide_the_built_in_ones() -> None:
    assert not issubclass(errors.ConnectionError, OSError)
    assert issubclass(errors.ConnectionError, DatabaseError)


@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.__name__)
def test_error_survives_the_way_between_processes(kind: type[SDKError]) -> None:
    if kind is MissingExtraError:
        error: SDKError = MissingExtraError("p", extra="e", distribution="d")
    else:
        error = kind("What was wrong.", remedy="What to do.", tenant_id="acme")
    error.trace_id = "f" * 32

    got = pickle.loads(pickle.dumps(error))

    assert type(got) is kind
    assert str(got) == str(error)
    assert (got.tenant_id, got.trace_id, got.retryable, got.remedy) == (
        error.tenant_id,
        error.trace_id,
        error.retryable,
        error.remedy,
    )
