"""The driver's errors as ours: nothing of it passes a method of the bus."""

from __future__ import annotations

from types import TracebackType

from motadata.core.errors import MessagingError, OverloadError, SDKError


class translated:  # noqa: N801 - reads as the statement that it is: `with translated("Storing"):`
    """Turn the driver's errors into ours.

    Raises:
        OverloadError: Too much waits to be sent.
        MessagingError: Everything else; a retryable one when no answer came in time.
    """

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Raise our error for the driver's, if there was one."""
        if error is None or isinstance(error, SDKError):
            return
        from nats import errors

        ours: Exception
        if isinstance(error, errors.OutboundBufferLimitError):
            message = f"{self._what}: the connection is down and its buffer is full."
            ours = OverloadError(message, remedy="Send less, or wait for the server.")
        elif isinstance(error, errors.MaxPayloadError):
            message = f"{self._what}: the message is larger than the server takes."
            remedy = "Send a reference to the data instead."
            ours = MessagingError(message, remedy=remedy, retryable=False)
        elif isinstance(error, errors.NoRespondersError):
            message = f"{self._what}: nobody listens."
            ours = MessagingError(message, remedy="Start who should, then repeat.")
        elif isinstance(error, errors.TimeoutError):
            message = f"{self._what}: the server did not answer in time."
            remedy = "Repeat it; look at the server when that happens often."
            ours = MessagingError(message, remedy=remedy, retryable=True)
        elif isinstance(error, errors.Error | OSError) and not isinstance(error, TimeoutError):
            message = f"{self._what}: {type(error).__name__}."
            ours = MessagingError(message, remedy="Look at the server's log.")
        else:
            return
        raise ours from error


def closed_error() -> MessagingError:
    """Return the error of a bus that is not open, or not any more."""
    message = "The message bus is not open."
    remedy = "Use it within `async with create_message_bus(…)`."
    return MessagingError(message, remedy=remedy, retryable=False)
