"""The custom metrics API's certificates: made by one process, trusted by whoever has the bundle of another."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509

from sundog_operator.custom_metrics.certificates import (
    AUTHORITY_SECONDS,
    CERTIFICATE_SECONDS,
    KeyPair,
    bundle,
    server_certificate,
)

MASTER_KEY = b"0123456789abcdef0123456789abcdef"
NAME = "sundog-operator.sundog-system.svc"


async def shake_hands(folder: Path, server: KeyPair, trusted: bytes, *, name: str = NAME) -> None:
    (folder / "crt").write_bytes(server.certificate)
    (folder / "key").write_bytes(server.key)
    offered = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    offered.load_cert_chain(folder / "crt", folder / "key")
    asking = ssl.create_default_context(cadata=trusted.decode())
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=offered)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=asking, server_hostname=name)
        writer.close()


async def test_a_process_is_trusted_by_the_bundle_of_another(tmp_path: Path) -> None:
    await shake_hands(
        tmp_path,
        server_certificate(MASTER_KEY, [NAME], unix_seconds=time.time()),
        bundle(MASTER_KEY, unix_seconds=time.time()),
    )


async def test_another_master_key_or_another_name_is_not_trusted(tmp_path: Path) -> None:
    server = server_certificate(MASTER_KEY, [NAME], unix_seconds=time.time())
    with pytest.raises(ssl.SSLCertVerificationError):
        await shake_hands(tmp_path, server, bundle(b"another key, as long as it takes", unix_seconds=time.time()))
    with pytest.raises(ssl.SSLCertVerificationError):
        await shake_hands(tmp_path, server, bundle(MASTER_KEY, unix_seconds=time.time()), name="other.svc")


@pytest.mark.parametrize("late", [-1, 0, 1])
async def test_a_bundle_of_the_period_before_or_after_is_good_enough(tmp_path: Path, late: int) -> None:
    server = server_certificate(MASTER_KEY, [NAME], unix_seconds=time.time())
    await shake_hands(tmp_path, server, bundle(MASTER_KEY, unix_seconds=time.time() + late * AUTHORITY_SECONDS))


def test_every_process_makes_the_same_bundle() -> None:
    assert bundle(MASTER_KEY, unix_seconds=1_800_000_000) == bundle(MASTER_KEY, unix_seconds=1_800_000_001)
    assert len(x509.load_pem_x509_certificates(bundle(MASTER_KEY, unix_seconds=1_800_000_000))) == 3


@pytest.mark.parametrize("moment", [0.0, 0.5, 0.999999])
def test_an_authority_outlives_whatever_it_signs(moment: float) -> None:
    at = (230 + moment) * AUTHORITY_SECONDS
    (certificate,) = x509.load_pem_x509_certificates(
        server_certificate(MASTER_KEY, [NAME], unix_seconds=at).certificate
    )
    signers = [
        each
        for each in x509.load_pem_x509_certificates(bundle(MASTER_KEY, unix_seconds=at))
        if each.subject == certificate.issuer
    ]
    assert len(signers) == 1
    assert signers[0].not_valid_before_utc <= certificate.not_valid_before_utc
    assert certificate.not_valid_after_utc <= signers[0].not_valid_after_utc
    assert (certificate.not_valid_after_utc.timestamp() - at) == pytest.approx(CERTIFICATE_SECONDS, abs=1)
