"""Lines that come again and again, and those of drivers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

import pytest

from motadata.core.observability import Repeated, adopt_logger, configure_observability, get_logger
from motadata.core.observability._logging import output
from motadata.core.testing.manual_clock import ManualClock


Lines = list[Mapping[str, object]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    taken: Lines = []
    configure_observability(level="WARNING", sink=lambda line: taken.append(dict(line)))
    yield taken
    output.configure()


@pytest.fixture
def library() -> Iterator[logging.Logger]:
    """Stands for a library's logger, with the host's root logger above it."""
    logger = logging.getLogger("tests.library")
    yield logger
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = True


async def test_first_line_comes_at_once_and_then_one_an_interval_with_a_count(lines: Lines):
    clock = ManualClock()
    repeated = Repeated(get_logger("tests"), "failed", interval=5.0, clock=clock.now)

    for _ in range(12):
        repeated.warning(number=1)
        await clock.advance(1)

    assert [line.get("repeated") for line in lines] == [None, 4, 4]


async def test_start_afresh_tells_what_was_held_back(lines: Lines):
    clock = ManualClock()
    repeated = Repeated(get_logger("tests"), "failed", interval=5.0, clock=clock.now)
    for _ in range(3):
        repeated.warning()

    assert repeated.restart() == 2

    repeated.warning()
    assert [line.get("repeated") for line in lines] == [None, None]


def test_librarys_warning_shows_the_type_of_its_error_and_nothing_on_standard_error(
    lines: Lines, library: logging.Logger, capsys: pytest.CaptureFixture[str]
):
    adopt_logger("tests.library", component="database")

    try:
        int("password=hunter2")
    except ValueError:
        library.getChild("pool").warning("It failed for %s; retrying", "acme", exc_info=True)

    (line,) = lines
    assert line["level"] == "warning"
    assert line["component"] == "database"
    assert line["event"] == "driver_warning"
    assert line["driver"] == "tests.library.pool"
    assert line["said"] == "It failed for %s; retrying"
    assert line["error"] == {"type": "ValueError"}
    assert "hunter2" not in str(lines)
    assert capsys.readouterr().err == ""


async def test_librarys_warnings_come_once_an_interval_and_each_kind_by_itself(
    lines: Lines, library: logging.Logger
):
    clock = ManualClock()
    adopt_logger("tests.library", component="database", interval=30, clock=clock.now)

    for _ in range(40):
        library.warning("one")
        library.error("other")
        library.info("chatter")
        await clock.advance(1)

    assert [line["said"] for line in lines] == ["one", "other"] * 2
    assert [line.get("repeated") for line in lines] == [None, None, 29, 29]


def test_adopting_twice_writes_once(lines: Lines, library: logging.Logger):
    for _ in range(2):
        adopt_logger("tests.library", component="database")

    library.warning("one")

    assert len(lines) == 1
