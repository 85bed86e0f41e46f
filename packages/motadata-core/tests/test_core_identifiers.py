from __future__ import annotations

import time
from uuid import RFC_4122, UUID

from motadata.core.identifiers import new_id, new_id_text


def test_id_is_a_uuid_of_version_seven() -> None:
    made = new_id()

    assert isinstance(made, UUID)
    assert (made.version, made.variant) == (7, RFC_4122)


def test_id_begins_with_the_milliseconds_at_which_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    made = new_id()
    after = time.time_ns() // 1_000_000

    assert before <= made.int >> 80 <= after


def test_id_as_text_is_that_of_a_uuid() -> None:
    made = new_id_text()

    assert str(UUID(made)) == made
    assert (UUID(made).version, UUID(made).variant) == (7, RFC_4122)


def test_ids_do_not_repeat() -> None:
    assert len({new_id() for _ in range(10_000)}) == 10_000


def test_id_of_a_later_millisecond_sorts_later() -> None:
    first = new_id()
    while time.time_ns() // 1_000_000 <= first.int >> 80:
        pass

    assert new_id() > first
