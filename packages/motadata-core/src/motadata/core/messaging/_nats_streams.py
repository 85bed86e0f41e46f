"""JetStream's own interface: streams, consumers and stored messages, as JSON over requests."""

from __future__ import annotations

import asyncio
import base64
import json
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from motadata.core.errors import ConfigurationError, MessagingError
from motadata.core.messaging._frames import read_headers
from motadata.core.messaging._nats_requests import Requests
from motadata.core.messaging._subject import DEAD_LETTERS, EVENTS, STREAM_SUBJECTS, WORK
from motadata.core.messaging._transport import FeedPlace, FeedRequest, Incoming
from motadata.core.protocols import Durability
from motadata.core.resilience import time_limit


REPLICAS: Final = 3
_SECOND: Final = 1_000_000_000
_DAY: Final = 86_400.0
_MEBIBYTE: Final = 1024 * 1024
_NOT_FOUND: Final = 404
_UNAVAILABLE: Final = 503
_PAUSE: Final = 0.1
_ATTEMPT: Final = 5.0
_PENDING_FACTOR: Final = 32


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What the streams keep; a publisher that would exceed it gets OverloadError.

    Messages are bounded for each tenant and subject, bytes only for all tenants together: large
    messages of one tenant can fill a stream for the others. Choose `max_bytes` above what the
    tenants may store at once, and limit what each may send where that is too much.

    Attributes:
        event_age: Seconds for which events are kept.
        dead_letter_age: Seconds for which dead letters are kept.
        max_bytes: Bytes of each stream, of all tenants together; dead letters get a quarter.
        max_messages_per_subject: Messages of one tenant and one event type or workflow, and of each
            lane of those with a key. Of dead letters the oldest go instead.
        duplicate_window: Seconds in which a repeated message id is recognised.
    """

    event_age: float = 7 * _DAY
    dead_letter_age: float = 30 * _DAY
    max_bytes: int = 1024 * _MEBIBYTE
    max_messages_per_subject: int = 100_000
    duplicate_window: float = 120.0


class JetStream:
    """Makes sure that streams and consumers are there, as they have to be."""

    def __init__(self, requests: Requests, *, timeout: float) -> None:
        self._requests = requests
        self._timeout = timeout

    async def ensure_streams(self, durability: Durability, limits: StreamLimits) -> None:
        """Make the streams that are missing and check those that are there.

        Raises:
            ConfigurationError: A stream keeps less than the durability promises.
            MessagingError: The server has no JetStream, or too few servers.
        """
        for name in STREAM_SUBJECTS:
            wanted = _stream_config(name, durability, limits)
            found = await self.call(f"STREAM.INFO.{name}", {}, missing_ok=True)
            if found is None:
                found = await self.call(f"STREAM.CREATE.{name}", wanted)
            assert found is not None
            _check_stream(name, found.get("config"), wanted)

    async def ensure_places(self, request: FeedRequest) -> None:
        """Make the consumers of a feed, or bring those that are there up to date.

        Raises:
            MessagingError: Another consumer takes the same work.
        """
        await asyncio.gather(*(self._ensure_place(request, place) for place in request.places))

    async def _ensure_place(self, request: FeedRequest, place: FeedPlace) -> None:
        config = _consumer_config(request, place)
        name = f"{request.stream}.{place.consumer}"
        wanted: dict[str, object] = {"stream_name": request.stream, "config": config}
        try:
            await self.call(f"CONSUMER.CREATE.{name}", wanted)
        except MessagingError as error:
            found = await self.call(f"CONSUMER.INFO.{name}", {}, missing_ok=True)
            there = None if found is None else found.get("config")
            if not isinstance(there, dict) or error.retryable:
                raise
            if there.get("deliver_policy") == config["deliver_policy"]:
                raise
            # Where it began cannot change any more.
            config["deliver_policy"] = there.get("deliver_policy", "all")
            await self.call(f"CONSUMER.CREATE.{name}", wanted)

    async def read(self, stream: str, subject: str, limit: int) -> Sequence[tuple[int, Incoming]]:
        """Return the first stored messages of a subject."""
        found: list[tuple[int, Incoming]] = []
        sequence = 0
        while len(found) < limit:
            answer = await self.call(
                f"STREAM.MSG.GET.{stream}",
                {"seq": sequence + 1, "next_by_subj": subject},
                missing_ok=True,
            )
            if answer is None:
                break
            message = answer["message"]
            assert isinstance(message, dict)
            sequence = int(message["seq"])
            headers = read_headers(base64.b64decode(message.get("hdrs") or ""))
            data = base64.b64decode(message.get("data") or "")
            found.append((sequence, Incoming(str(message["subject"]), data, headers)))
        return found

    async def call(
        self, method: str, arguments: dict[str, object], *, missing_ok: bool = False
    ) -> dict[str, object] | None:
        """Call a method of JetStream, again while it has no leader.

        Raises:
            MessagingError: It refuses, or did not answer in time.
            DeadlineExceededError: The caller's deadline ended first.
        """
        last: BaseException | None = None
        try:
            async with time_limit(None, what="JetStream"), asyncio.timeout(self._timeout):
                while True:
                    try:
                        answer = await self._once(method, arguments)
                    except (MessagingError, TimeoutError) as error:
                        if isinstance(error, MessagingError) and not error.retryable:
                            raise
                        last = error
                    else:
                        problem = answer.get("error")
                        if not isinstance(problem, dict):
                            return answer
                        if problem.get("code") == _NOT_FOUND and missing_ok:
                            return None
                        if problem.get("code") != _UNAVAILABLE:
                            raise _refused(method, problem)
                        last = _refused(method, problem)
                    await asyncio.sleep(_PAUSE)
        except TimeoutError:
            message = f"JetStream did not carry out {method} within {self._timeout:g} s."
            raise MessagingError(
                message, remedy="Is JetStream on, and are enough servers up?"
            ) from last

    async def _once(self, method: str, arguments: dict[str, object]) -> dict[str, object]:
        reply = await self._requests.request(
            f"$JS.API.{method}", json.dumps(arguments).encode(), b"", timeout=_ATTEMPT
        )
        answer = json.loads(reply.data)
        assert isinstance(answer, dict)
        return answer


async def check_disk_writes(monitoring_urls: Sequence[str]) -> None:
    """Ask each server whether it writes every message to the disk before it acknowledges it.

    Raises:
        ConfigurationError: One does not, or no address was given to ask.
        MessagingError: One does not answer.
    """
    if not monitoring_urls:
        message = "durability='fsync' needs monitoring_urls, to see whether the server does it."
        raise ConfigurationError(message, remedy="Pass the servers' http addresses.")
    for url in monitoring_urls:
        state = await asyncio.to_thread(_get_json, url.rstrip("/") + "/varz")
        jetstream = state.get("jetstream")
        config = jetstream.get("config") if isinstance(jetstream, dict) else None
        if not isinstance(config, dict) or not config.get("sync_always"):
            message = f"The NATS server at {url!r} acknowledges before it writes to the disk."
            raise ConfigurationError(
                message, remedy="Set `jetstream { sync_interval: always }` there, or durability."
            )


def _get_json(url: str) -> dict[str, object]:
    if not url.startswith(("http://", "https://")):
        message = f"{url!r} is no http address."
        raise ConfigurationError(message, remedy="Pass the server's monitoring address.")
    try:
        with urllib.request.urlopen(url, timeout=_ATTEMPT) as answer:  # noqa: S310 - checked above
            value = json.load(answer)
    except (OSError, ValueError) as error:
        message = f"The NATS server's status page at {url!r} cannot be read."
        raise MessagingError(message, remedy="Correct monitoring_urls.") from error
    return value if isinstance(value, dict) else {}


def _stream_config(name: str, durability: Durability, limits: StreamLimits) -> dict[str, object]:
    is_dead = name == DEAD_LETTERS
    ages = {EVENTS: limits.event_age, DEAD_LETTERS: limits.dead_letter_age, WORK: 0.0}
    # Dead letters are recognised for longer: they may be tried again after a long outage.
    window = max(limits.duplicate_window, min(_DAY, limits.dead_letter_age) if is_dead else 0.0)
    return {
        "name": name,
        "subjects": list(STREAM_SUBJECTS[name]),
        "retention": "workqueue" if name == WORK else "limits",
        "storage": "memory" if durability == "memory" else "file",
        "num_replicas": REPLICAS if durability == "replicated" else 1,
        "max_age": _nanoseconds(ages[name]),
        "max_bytes": limits.max_bytes // 4 if is_dead else limits.max_bytes,
        "max_msgs_per_subject": limits.max_messages_per_subject,
        "discard": "old" if is_dead else "new",
        "discard_new_per_subject": not is_dead,
        "duplicate_window": _nanoseconds(window),
        "allow_direct": False,
    }


def _consumer_config(request: FeedRequest, place: FeedPlace) -> dict[str, object]:
    options = request.options
    return {
        "durable_name": place.consumer,
        "name": place.consumer,
        "ack_policy": "explicit",
        "deliver_policy": options.start,
        # We count ourselves: a message that the server stops handing out would stay for ever.
        "max_deliver": -1,
        "ack_wait": _nanoseconds(options.ack_wait),
        # One without verdict holds up the next, wherever it is: that is what keeps the order.
        "max_ack_pending": 1 if place.one_by_one else options.max_in_flight * _PENDING_FACTOR,
        "filter_subjects": list(place.patterns),
        "inactive_threshold": _nanoseconds(options.forget_after or 0.0),
    }


def _check_stream(name: str, found: object, wanted: dict[str, object]) -> None:
    config = found if isinstance(found, dict) else {}
    for setting in ("retention", "storage", "num_replicas", "discard", "subjects"):
        there, here = config.get(setting), wanted[setting]
        enough = (
            isinstance(there, int) and isinstance(here, int) and there >= here
            if setting == "num_replicas"
            else there == here
        )
        if not enough:
            message = f"The stream {name!r} has {setting}={there!r}, not {here!r}."
            raise ConfigurationError(
                message, remedy="Edit the stream on the server, or ask for what it is."
            )


def _refused(method: str, problem: dict[str, object]) -> MessagingError:
    message = f"JetStream refuses {method}: {str(problem.get('description', ''))[:200]}."
    return MessagingError(
        message, remedy="Correct what it names.", retryable=problem.get("code") == _UNAVAILABLE
    )


def _nanoseconds(seconds: float) -> int:
    return int(seconds * _SECOND)
