"""The custom metrics server over real TLS: whom it answers, and how it comes by other certificates as it runs."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kubernetes.aio.client import Configuration

from sundog_operator.core.load import Metric
from sundog_operator.custom_metrics import server as server_module
from sundog_operator.custom_metrics.answers import PATH, RESOURCE
from sundog_operator.custom_metrics.certificates import RENEWAL_SECONDS, bundle
from sundog_operator.custom_metrics.server import CustomMetricsServer
from sundog_operator.kube.client import Client
from sundog_operator.kube.connection import Connection
from sundog_operator.kube.store import ResourceKey
from tests.apiserver.operator.world import until

MASTER_KEY = b"0123456789abcdef0123456789abcdef"
NAME = "sundog-operator.sundog-system.svc"
VALUE = f"{PATH}/namespaces/prod/{RESOURCE}/qwen3/{Metric.ONGOING_REQUESTS}"
ADA = {"X-Remote-User": "ada", "X-Remote-Group": "team"}


class Authority:
    """An authority of the API server's, and what it signs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _common_name("front-proxy-ca")
        built = _certificate(self._name, self._key).issuer_name(self._name)
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.pem = built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def client(self, common_name: str) -> ssl.SSLContext:
        """Make a client with a certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = _certificate(_common_name(common_name), key).issuer_name(self._name).sign(self._key, hashes.SHA256())
        file = self._folder / "client.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
        context = nobody()
        context.load_cert_chain(file)
        return context


def nobody() -> ssl.SSLContext:
    """Make a client without a certificate, that trusts the server as an API server does: by the bundle alone."""
    return ssl.create_default_context(cadata=bundle(MASTER_KEY, unix_seconds=time.time()).decode())


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _certificate(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
    )


@dataclass(slots=True)
class Line:
    """A connection that asks and asks again, so that it is known which one was answered."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def serial(self) -> int:
        """Of the certificate that the server showed here."""
        shown = self.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(shown).serial_number

    async def ask(self, path: str, headers: Mapping[str, str] = ADA) -> tuple[int, dict[str, Any]]:
        """Give the status and the answer."""
        head = "".join(f"{key}: {value}\r\n" for key, value in {"Host": NAME, **headers}.items())
        self.writer.write(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        first, *rest = (await self.reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        told = {key.lower(): value for key, _, value in (line.partition(": ") for line in rest)}
        return int(first.split()[1]), json.loads(await self.reader.readexactly(int(told["content-length"])))


@dataclass
class World:
    """A server that runs, what the API server tells it, and its clock."""

    authority: Authority
    port: int = field(default_factory=unused_port)
    now: float = field(default_factory=lambda: time.time() - RENEWAL_SECONDS)
    """A day behind: clients judge certificates by the real time, and one from tomorrow is not valid yet."""
    looks: int = 0
    """How often it has looked at how the API server is known."""
    trusted: str = ""
    allowed: bool = True
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    measuring: int = 0

    def __post_init__(self) -> None:
        self.hold.set()
        self.trusted = self.authority.pem

    async def handle(self, request: web.Request) -> web.Response:
        """Answer as the API server does."""
        if request.method == "POST":
            return web.json_response({"status": {"allowed": self.allowed}}, status=201)
        assert request.path.endswith("/namespaces/kube-system/configmaps/extension-apiserver-authentication")
        self.looks += 1
        data = {
            "requestheader-client-ca-file": self.trusted,
            "requestheader-allowed-names": '["front-proxy-client"]',
            "requestheader-username-headers": '["X-Remote-User"]',
            "requestheader-group-headers": '["X-Remote-Group"]',
        }
        return web.json_response({"apiVersion": "v1", "kind": "ConfigMap", "data": data})

    async def measure(self, _key: ResourceKey, _metric: Metric) -> float | None:
        self.measuring += 1
        await self.hold.wait()
        return 7.0

    async def looks_again(self) -> None:
        """Wait until it has looked, and has done what follows from that: the second look begins after the first."""
        until_then = self.looks + 2
        await until(lambda: self.looks >= until_then, "the server looks again")

    @asynccontextmanager
    async def connected(self, client: ssl.SSLContext) -> AsyncIterator[Line]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=client, server_hostname=NAME)
        try:
            yield Line(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):  # the server has said already that it wants no more of this client
                await writer.wait_closed()


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    # The tests wait for looks.
    monkeypatch.setattr(server_module, "LOOK_SECONDS", 0.05)
    world = World(Authority(tmp_path))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", world.handle)
    async with TestServer(app) as api_server:
        connection = Connection(Configuration(host=str(api_server.make_url(""))), None)
        async with Client(connection, guard=lambda: 0.0) as client:
            running = asyncio.create_task(
                CustomMetricsServer(
                    client,
                    measure=world.measure,
                    keys=lambda: [ResourceKey("prod", "qwen3")],
                    master_key=MASTER_KEY,
                    names=[NAME],
                    port=world.port,
                    unix_time=lambda: world.now,
                ).run()
            )
            await world.looks_again()
            yield world
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


def value_of(answer: dict[str, Any]) -> str:
    return str(answer["items"][0]["value"])


@pytest.mark.parametrize("path", [PATH, VALUE])
async def test_the_api_server_is_answered_and_no_other_with_a_certificate_of_the_same_authority(
    world: World, path: str
) -> None:
    async with world.connected(world.authority.client("front-proxy-client")) as line:
        assert (await line.ask(path))[0] == 200
    async with world.connected(world.authority.client("somebody")) as line:
        status, answer = await line.ask(path)
        assert (status, answer.get("reason")) == (401, "Unauthorized")
        assert answer["message"] == "only the API server may ask here, with its front-proxy certificate"


async def test_whoever_shows_no_certificate_or_one_of_another_authority_is_not_even_heard(
    world: World, tmp_path: Path
) -> None:
    for client in (nobody(), Authority(tmp_path).client("front-proxy-client")):
        # In TLS 1.3 a client learns only from what it reads that it was refused.
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            async with world.connected(client) as line:
                await line.ask(VALUE)
    assert world.measuring == 0


async def test_a_request_that_names_no_user_is_refused_with_words(world: World) -> None:
    async with world.connected(world.authority.client("front-proxy-client")) as line:
        status, answer = await line.ask(VALUE, {"X-Remote-Group": "system:masters"})
        assert (status, answer.get("reason"), answer.get("message")) == (
            401,
            "Unauthorized",
            "the request names no user",
        )
        assert world.measuring == 0
        status, answer = await line.ask(VALUE)
        assert (status, value_of(answer)) == (200, "7")


async def test_a_user_without_the_right_is_told_which_one(world: World) -> None:
    world.allowed = False
    async with world.connected(world.authority.client("front-proxy-client")) as line:
        status, answer = await line.ask(VALUE)
    assert status == 403
    assert answer["message"] == f'user "ada" may not get ongoing_requests of {RESOURCE} "qwen3"'
    assert world.measuring == 0


async def test_a_certificate_is_renewed_daily_and_connections_made_before_go_on(world: World) -> None:
    client = world.authority.client("front-proxy-client")

    async def serial() -> int | None:
        try:
            async with world.connected(client) as line:
                assert (await line.ask(PATH))[0] == 200
                return line.serial
        except ConnectionError:
            return None  # it begins to listen anew at this very moment

    began = world.now
    async with world.connected(client) as before:
        world.now = began + RENEWAL_SECONDS - 1
        await world.looks_again()
        assert await serial() == before.serial, "a day has not passed"
        world.hold.clear()
        asking = asyncio.create_task(before.ask(VALUE))
        await until(lambda: world.measuring == 1, "a question is under way")
        world.now = began + RENEWAL_SECONDS

        async def renewed() -> bool:
            return await serial() not in {None, before.serial}

        await until(renewed, "the server shows another certificate")
        world.hold.set()
        status, answer = await asking
        assert (status, value_of(answer)) == (200, "7"), "what was under way is answered"
        await world.looks_again()
        assert (await before.ask(VALUE))[0] == 200, "and what is asked next on the same connection"
        assert await serial() not in {None, before.serial}


async def test_an_api_server_with_another_authority_is_known_without_a_restart(world: World, tmp_path: Path) -> None:
    another = Authority(tmp_path)
    before, after = world.authority.client("front-proxy-client"), another.client("front-proxy-client")
    world.trusted = another.pem
    await world.looks_again()
    async with world.connected(after) as line:
        assert (await line.ask(VALUE))[0] == 200
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        async with world.connected(before) as line:
            await line.ask(VALUE)
