"""The certificates of the custom metrics API, derived from the operator's master key.

The API server trusts one bundle of authorities, and either process of the operator may answer it. Both derive the same
authorities from the key that they share, byte for byte, so there is no Secret to write, to read or to rotate, and a
process that starts is trusted at once. Authorities follow each other every 90 days; the bundle holds the one before
and the one after as well, so that neither two clocks nor a bundle that is written late break the trust.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_SECONDS: Final = 90 * 86_400
"""For so long an authority signs."""
CERTIFICATE_SECONDS: Final = 7 * 86_400
RENEWAL_SECONDS: Final = 86_400
"""After so long a process makes itself another certificate."""
_CURVE: Final = ec.SECP256R1()
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the curve's group (SEC 2, section 2.4.2): a private key is a number below it."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its key, both as PEM."""

    certificate: bytes
    key: bytes


def bundle(master_key: bytes, *, unix_seconds: float) -> bytes:
    """Give the authorities that are to be trusted now, as PEM: the same in every process that has the key."""
    period = _period(unix_seconds)
    return b"".join(
        _authority(master_key, each).public_bytes(serialization.Encoding.PEM) for each in range(period - 1, period + 2)
    )


def server_certificate(master_key: bytes, names: Sequence[str], *, unix_seconds: float) -> KeyPair:
    """Make a certificate for a server, with a key of its own.

    Args:
        master_key: the operator's.
        names: DNS names of the server.
        unix_seconds: now.
    """
    period = _period(unix_seconds)
    key = ec.generate_private_key(_CURVE)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(_name(period))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_moment(unix_seconds - 3_600))  # the API server's clock may be behind
        .not_valid_after(_moment(unix_seconds + CERTIFICATE_SECONDS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(_key(master_key, period), hashes.SHA256())
    )
    return KeyPair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _authority(master_key: bytes, period: int) -> x509.Certificate:
    key = _key(master_key, period)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(period))
        .issuer_name(_name(period))
        .public_key(key.public_key())
        .serial_number(period)
        # It is trusted for as long as the bundle may hold it, and signs in the middle third of that.
        .not_valid_before(_moment((period - 1) * AUTHORITY_SECONDS))
        .not_valid_after(_moment((period + 2) * AUTHORITY_SECONDS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    )


def _key(master_key: bytes, period: int) -> ec.EllipticCurvePrivateKey:
    # 64 bytes, so that the remainder is as good as evenly spread (FIPS 186-5, appendix A.2.1).
    digest = hmac.new(master_key, f"custom-metrics-authority:{period}".encode(), "sha512").digest()
    return ec.derive_private_key(1 + int.from_bytes(digest, "big") % (_ORDER - 1), _CURVE)


def _name(period: int) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"sundog-custom-metrics-{period}")])


def _period(unix_seconds: float) -> int:
    return int(unix_seconds // AUTHORITY_SECONDS)


def _moment(unix_seconds: float) -> datetime:
    return datetime.fromtimestamp(int(unix_seconds), UTC)
