"""A DNS server on loopback whose A records a test changes at will."""

from __future__ import annotations

import asyncio
import ipaddress
import struct
from typing import Final, cast

_A: Final = 1
_NXDOMAIN: Final = 3
_RESPONSE: Final = 0x8580  # QR, AA, RD, RA
_QUESTION_END: Final = 5  # root label, type and class


class NameServer(asyncio.DatagramProtocol):
    """Answers A queries from `records`: an absent or empty name is NXDOMAIN, as CoreDNS says of an empty Service."""

    def __init__(self, records: dict[str, list[str]]) -> None:
        self.records = records
        self.queries = 0
        self.code: int | None = None
        """A failure to answer with instead (2 SERVFAIL, 5 REFUSED), or none."""
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self, port: int = 0) -> None:
        """Listen on 127.0.0.1."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", port))
        self._transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def stop(self) -> None:
        """Be gone: queries meet a closed port."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        """Answer one query; the client's EDNS record is ignored, so answers may be as long as they are."""
        self.queries += 1
        end = data.index(b"\0", 12) + _QUESTION_END
        name, kind = _name(data), struct.unpack_from("!H", data, end - 4)[0]
        addresses = self.records.get(name, [])
        code = self.code if self.code is not None else 0 if addresses else _NXDOMAIN
        answers = addresses if code == 0 and kind == _A else []
        header = data[:2] + struct.pack("!HHHHH", _RESPONSE | code, 1, len(answers), 0, 0)
        body = b"".join(
            struct.pack("!HHHIH", 0xC00C, _A, 1, 5, 4) + ipaddress.IPv4Address(address).packed for address in answers
        )
        cast("asyncio.DatagramTransport", self._transport).sendto(header + data[12:end] + body, addr)


def _name(query: bytes) -> str:
    labels, at = [], 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels).lower()
