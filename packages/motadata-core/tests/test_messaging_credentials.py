"""Who the bus is to a real NATS server: token, password, nkey, signed credentials, certificates."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from motadata.core.embedded import EmbeddedNats
from motadata.core.embedded._nats_server import _find_binary
from motadata.core.errors import ConfigurationError, MessagingError, MissingExtraError
from motadata.core.messaging import NatsCredentials, create_message_bus
from motadata.core.messaging._nats_connection import ended_in_time
from motadata.core.testing.message_bus import Recorder, eventually


if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as PublicKey
    from cryptography.x509 import Certificate

pytest.importorskip("cryptography")
pytest.importorskip("nats")
nkeys = pytest.importorskip("nkeys")


@asynccontextmanager
async def server_with(directory: Path, configuration: str) -> AsyncIterator[str]:
    """Run a server with a configuration of its own, as an administrator would; yield host:port."""
    path = directory / "nats.conf"
    path.write_text(
        'listen: "127.0.0.1:-1"\n'
        f"ports_file_dir: {json.dumps(str(directory))}\n"
        f"jetstream {{ store_dir: {json.dumps(str(directory / 'data'))} }}\n{configuration}\n"
    )
    process = await asyncio.create_subprocess_exec(
        str(_find_binary()), "-c", str(path), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        ports = directory / f"nats-server_{process.pid}.ports"
        await eventually(lambda: ports.exists() and bool(ports.read_text()))
        port = json.loads(ports.read_text())["nats"][0].rsplit(":", 1)[1]
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def carries_messages(url: str, credentials: NatsCredentials) -> bool:
    """Tell whether a bus with these credentials stores an event and gets it back."""
    recorder = Recorder()
    async with create_message_bus(url, credentials=credentials, connect_timeout=5) as bus:
        await bus.publish_event("ticket.opened", 1, tenant_id="acme")
        await bus.consume("all", recorder, event_types=["ticket.opened"], tenant_id="acme")
        return await recorder.wait(1) == [1]


async def test_user_and_password_work_and_the_wrong_one_is_refused(tmp_path: Path):
    configuration = 'authorization { user: "sdk", password: "p4ss" }'
    async with server_with(tmp_path, configuration) as address:
        url = f"nats://{address}"
        right = NatsCredentials(user="sdk", password=SecretStr("p4ss"))
        assert await carries_messages(url, right)
        wrong = NatsCredentials(user="sdk", password=SecretStr("other"))
        with pytest.raises(MessagingError, match="refuses"):
            await carries_messages(url, wrong)


def key_pair(prefix: int, number: int) -> nkeys.KeyPair:
    return nkeys.from_seed(nkeys.encode_seed(bytes([number]) * 32, prefix))


def public(pair: nkeys.KeyPair) -> str:
    return pair.public_key.decode()


async def test_nkey_signs_in_and_an_unknown_one_is_refused(tmp_path: Path):
    known, unknown = (
        nkeys.encode_seed(bytes([number]) * 32, nkeys.PREFIX_BYTE_USER) for number in (1, 2)
    )
    users = f"authorization {{ users: [ {{ nkey: {public(nkeys.from_seed(known))} }} ] }}"
    async with server_with(tmp_path, users) as address:
        url = f"nats://{address}"
        right = NatsCredentials(nkey_seed=SecretStr(known.decode()))
        assert await carries_messages(url, right)
        wrong = NatsCredentials(nkey_seed=SecretStr(unknown.decode()))
        with pytest.raises(MessagingError, match="refuses"):
            await carries_messages(url, wrong)


def signed(claims: dict[str, object], issuer: nkeys.KeyPair, subject: nkeys.KeyPair) -> str:
    """Return a JWT as NATS knows it: signed by an nkey, about another."""
    body = {
        "jti": "1",
        "iat": 1,
        "iss": public(issuer),
        "sub": public(subject),
        "name": "motadata",
        "nats": {"version": 2, **claims},
    }
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, body)
    ]
    signature = base64.urlsafe_b64encode(issuer.sign(b".".join(parts))).rstrip(b"=")
    return b".".join([*parts, signature]).decode()


_LIMITS = ("subs", "data", "payload", "imports", "exports", "conn", "leaf")
_STORAGE = ("mem_storage", "disk_storage", "streams", "consumer")


def operator_setup(user: nkeys.KeyPair) -> tuple[str, str]:
    """Return a configuration with an operator and an account, and the JWT of a user of it."""
    operator = key_pair(nkeys.PREFIX_BYTE_OPERATOR, 3)
    account, system = (key_pair(nkeys.PREFIX_BYTE_ACCOUNT, number) for number in (4, 5))
    unlimited = dict.fromkeys(_LIMITS, -1) | {"wildcards": True}
    with_jetstream = unlimited | dict.fromkeys(_STORAGE, -1)
    about_operator = {"type": "operator", "system_account": public(system)}
    operator_jwt = signed(about_operator, operator, operator)
    account_jwts = {
        public(one): signed({"type": "account", "limits": limits}, operator, one)
        for one, limits in ((account, with_jetstream), (system, unlimited))
    }
    rights = {"type": "user", "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1}
    preload = "\n".join(f"{name}: {jwt}" for name, jwt in account_jwts.items())
    configuration = (
        f"operator: {operator_jwt}\n"
        f"system_account: {public(system)}\n"
        f"resolver: MEMORY\nresolver_preload: {{\n{preload}\n}}"
    )
    return configuration, signed(rights, account, user)


def write_credentials(path: Path, jwt: str, seed: bytes) -> Path:
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed.decode()}\n------END USER NKEY SEED------\n"
    )
    return path


async def test_credentials_file_of_an_operators_account_signs_in_and_a_strangers_does_not(
    tmp_path: Path,
):
    seeds = [nkeys.encode_seed(bytes([one]) * 32, nkeys.PREFIX_BYTE_USER) for one in (6, 7)]
    configuration, jwt = operator_setup(nkeys.from_seed(seeds[0]))
    right = write_credentials(tmp_path / "right.creds", jwt, seeds[0])
    # The account's JWT with a key that is not the one it names.
    wrong = write_credentials(tmp_path / "wrong.creds", jwt, seeds[1])
    async with server_with(tmp_path, configuration) as address:
        url = f"nats://{address}"
        assert await carries_messages(url, NatsCredentials(credentials_file=right))
        with pytest.raises(MessagingError, match="refuses"):
            await carries_messages(url, NatsCredentials(credentials_file=wrong))
        with pytest.raises(MessagingError, match="refuses"):
            await carries_messages(url, NatsCredentials())


class Authority:
    """A certificate authority, for a minute."""

    def __init__(self, directory: Path, name: str) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec

        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = name
        self._certificate = self._sign(name, self._key.public_key(), is_authority=True)
        self.path = self._write(f"{name}.pem", self._certificate)

    def issue(self, name: str) -> tuple[Path, Path]:
        """Return the files of a key and a certificate for 127.0.0.1."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        path = self._directory / f"{name}.key"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        certificate = self._sign(name, key.public_key(), is_authority=False)
        return path, self._write(f"{name}.pem", certificate)

    def _sign(self, name: str, key: PublicKey, *, is_authority: bool) -> Certificate:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.x509.oid import NameOID

        def called(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(called(name))
            .issuer_name(called(self._name))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]),
                critical=False,
            )
        )
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, file: str, certificate: Certificate) -> Path:
        from cryptography.hazmat.primitives import serialization

        path = self._directory / file
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path


def server_tls(authority: Authority, *, clients: Authority | None = None) -> str:
    key, certificate = authority.issue("server")
    lines = [f"cert_file: {json.dumps(str(certificate))}", f"key_file: {json.dumps(str(key))}"]
    if clients is not None:
        lines += [f"ca_file: {json.dumps(str(clients.path))}", "verify: true"]
    return "tls {\n" + "\n".join(lines) + "\n}"


async def test_server_of_a_trusted_authority_is_used_and_of_another_is_not(tmp_path: Path):
    ours, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    async with server_with(tmp_path, server_tls(ours)) as address:
        url = f"tls://{address}"
        trusting = NatsCredentials(tls=ssl.create_default_context(cafile=ours.path))
        assert await carries_messages(url, trusting)
        for doubting in (
            NatsCredentials(tls=ssl.create_default_context(cafile=other.path)),
            NatsCredentials(),
        ):
            with pytest.raises(MessagingError):
                async with create_message_bus(url, credentials=doubting, connect_timeout=1):
                    pass


async def test_client_certificate_is_shown_when_the_server_wants_one(tmp_path: Path):
    ours = Authority(tmp_path, "ours")
    key, certificate = ours.issue("client")
    async with server_with(tmp_path, server_tls(ours, clients=ours)) as address:
        url = f"tls://{address}"
        tls = ssl.create_default_context(cafile=ours.path)
        with pytest.raises(MessagingError):
            async with create_message_bus(
                url, credentials=NatsCredentials(tls=tls), connect_timeout=1
            ):
                pass
        tls.load_cert_chain(certificate, key)
        assert await carries_messages(url, NatsCredentials(tls=tls))


async def test_attempt_that_loses_a_cancellation_is_ended_all_the_same():
    lost = 0

    async def stubborn() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
                if lost == 3:
                    raise

    with pytest.raises(TimeoutError):
        await ended_in_time(stubborn(), seconds=0.01, again=0.01)
    assert lost == 3


async def test_wrong_token_is_refused_at_once(embedded_nats: EmbeddedNats):
    with pytest.raises(MessagingError, match="refuses the credentials") as caught:
        async with create_message_bus(embedded_nats.url):
            pass
    assert not caught.value.retryable


def test_credentials_that_do_not_go_together_are_refused():
    from pydantic import SecretStr

    secret = SecretStr("hunter2")
    for wrong in (
        NatsCredentials(token=secret, nkey_seed=secret),
        NatsCredentials(user="a"),
        NatsCredentials(password=secret),
    ):
        with pytest.raises(ConfigurationError) as caught:
            wrong.options()
        assert "hunter2" not in f"{caught.value}{wrong}"


def test_keys_without_the_signing_package_name_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("motadata.core.messaging._nats_credentials.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="nats"):
        NatsCredentials(credentials_file=Path("a.creds")).options()
