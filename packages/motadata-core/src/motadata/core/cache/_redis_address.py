"""The address of a Redis-protocol server, or of several of one cluster."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from motadata.core._redis_connection import is_address
from motadata.core.errors import ConfigurationError


def split_address(url: str) -> list[str]:
    """Return one address for each host.

    Raises:
        ConfigurationError: It is no Redis address; the message does not repeat it.
    """
    try:
        parts = urlsplit(url)
        login, _, hosts = parts.netloc.rpartition("@")
        prefix = f"{login}@" if login else ""
        addresses = [urlunsplit(parts._replace(netloc=prefix + host)) for host in hosts.split(",")]
    except ValueError:
        addresses = [""]
    if not all(map(is_address, addresses)):
        message = "The address of the cache's server is not valid."
        raise ConfigurationError(message, remedy="Write it as redis://:password@host:6379.")
    return addresses


def with_host(address: str, host: str, port: int) -> str:
    """Return the address of another server with the same login."""
    parts = urlsplit(address)
    if parts.scheme == "unix":
        return address
    login, at, _ = parts.netloc.rpartition("@")
    shown = f"[{host}]" if ":" in host else host
    return urlunsplit(parts._replace(netloc=f"{login}{at}{shown}:{port}"))


def host_and_port(address: str) -> tuple[str, int]:
    """Return where an address points."""
    parts = urlsplit(address)
    return parts.hostname or "localhost", parts.port or 6379


def without_login(address: str) -> str:
    """Return what of an address may be shown."""
    parts = urlsplit(address)
    return repr(parts.netloc.rpartition("@")[2] or parts.path)
