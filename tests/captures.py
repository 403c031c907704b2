"""Capture files for tests: real ones, and ones put together byte by byte."""

from __future__ import annotations

import csv
import struct
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).parent / "data"
ETHERNET, RAW, SLL, IPV4, IPV6, SLL2, NULL = 1, 101, 113, 228, 229, 276, 0
SECOND = 10**9


@dataclass(frozen=True)
class Real:
    """A row of the manifest."""

    file: str
    packets: int
    container: str
    link_types: dict[str, int]

    @property
    def path(self) -> Path:
        return DATA / self.file


def manifest() -> list[Real]:
    with open(DATA / "MANIFEST.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [
        Real(
            row["file"],
            int(row["packets"]),
            row["container"],
            {kind: int(n) for kind, n in (part.split("=") for part in row["link_types"].split(",") if part)},
        )
        for row in rows
    ]


REAL = manifest()


@dataclass(frozen=True)
class Record:
    """A packet of a pcap file. `time` in ns."""

    frame: bytes
    time: int = 0
    cut: int = 0  # bytes that the capture lost

    @property
    def wire_length(self) -> int:
        return len(self.frame) + self.cut


def pcap(
    records: list[Record],
    *,
    big: bool = False,
    nanoseconds: bool = False,
    link_type: int = ETHERNET,
    version: tuple[int, int] = (2, 4),
    snaplen: int = 65535,
    extra: int = 0,
) -> bytes:
    """A pcap file; `extra` = 8 makes the longer record headers of Kuznetsov's libpcap."""
    order = ">" if big else "<"
    magic = {8: 0xA1B2CD34}.get(extra, 0xA1B23C4D if nanoseconds else 0xA1B2C3D4)
    parts = [struct.pack(order + "IHHiIII", magic, *version, 0, 0, snaplen, link_type)]
    for record in records:
        fraction = record.time % SECOND // (1 if nanoseconds else 1000)
        lengths = [len(record.frame), record.wire_length]
        if version < (2, 3):
            lengths.reverse()
        parts.append(struct.pack(order + "IIII", record.time // SECOND, fraction, *lengths))
        parts.append(bytes(extra) + record.frame)
    return b"".join(parts)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


class Section:
    """Blocks of a pcapng section, all of one byte order."""

    def __init__(self, big: bool = False) -> None:
        self.order = ">" if big else "<"

    def pack(self, format: str, *values: int) -> bytes:
        return struct.pack(self.order + format, *values)

    def block(self, kind: int, body: bytes) -> bytes:
        size = self.pack("I", 12 + len(padded(body)))
        return self.pack("I", kind) + size + padded(body) + size

    def options(self, options: dict[int, bytes]) -> bytes:
        parts = [self.pack("HH", code, len(value)) + padded(value) for code, value in options.items()]
        return b"".join(parts) + bytes(4) if parts else b""

    def header(self, version: tuple[int, int] = (1, 0)) -> bytes:
        return self.block(0x0A0D0D0A, self.pack("IHHq", 0x1A2B3C4D, *version, -1))

    def interface(
        self,
        link_type: int = ETHERNET,
        snaplen: int = 0,
        resolution: int | None = None,
        offset: int | None = None,
    ) -> bytes:
        options = {} if resolution is None else {9: bytes([resolution])}
        if offset is not None:
            options[14] = self.pack("q", offset)
        return self.block(1, self.pack("HHI", link_type, 0, snaplen) + self.options(options))

    def enhanced(self, frame: bytes, ticks: int = 0, interface: int = 0, cut: int = 0) -> bytes:
        head = self.pack("IIIII", interface, ticks >> 32, ticks % 2**32, len(frame), len(frame) + cut)
        return self.block(6, head + padded(frame) + self.options({2: bytes(4)}))

    def simple(self, frame: bytes, wire_length: int | None = None) -> bytes:
        return self.block(3, self.pack("I", len(frame) if wire_length is None else wire_length) + frame)

    def obsolete(self, frame: bytes, ticks: int = 0, interface: int = 0, cut: int = 0) -> bytes:
        head = self.pack("HHIIII", interface, 0, ticks >> 32, ticks % 2**32, len(frame), len(frame) + cut)
        return self.block(2, head + frame)
