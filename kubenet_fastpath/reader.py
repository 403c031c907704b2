"""What a capture file's beginning says, and which of its packets become frames."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .batch import PacketBatch
from .errors import CaptureError, CaptureWarning
from .linktype import NAMES, READABLE, to_ethernet
from .pcap import PcapScanner
from .pcapng import PcapngScanner
from .scan import Packets

ETHERNET = 1
PCAP_HEADER = 24
PCAPNG = b"\x0a\x0d\x0d\x0a"
PACKED = {b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zX": "xz", b"BZh": "bzip2", b"\x04\x22\x4d\x18": "lz4"}


def _warn(text: str) -> None:
    """Warn, at the line outside this package that brought it about."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(f"{__package__}."):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, CaptureWarning, stacklevel=level)


class Reader:
    """Makes batches of what a scanner finds in one file, and keeps account of the rest.

    Parameters
    ----------
    head : bytes
        The file's first bytes, PCAP_HEADER of them if there are as many.
    name : str
    broken : str or None
        Why there are no more bytes.
    port : int or (N,) array of int

    Attributes
    ----------
    scanner : PcapScanner or PcapngScanner
    start : int
        Where its first record or block is.

    Raises
    ------
    CaptureError
        For what is no capture, or a pcap file of a link type that cannot become Ethernet.
    """

    def __init__(self, head: bytes, name: str, broken: str | None, port: SupportsIndex | ArrayLike) -> None:
        self._name, self._port = name, port
        self._read = 0
        self._left_out: Counter[int] = Counter()
        self.scanner: PcapScanner | PcapngScanner
        if head[:4] == PCAPNG:
            self.scanner, self.start = PcapngScanner(), 0
            return
        try:
            if len(head) < PCAP_HEADER and broken:
                raise CaptureError(broken)
            if not head:
                raise CaptureError("it is empty")
            for magic, program in PACKED.items():
                if head.startswith(magic):
                    raise CaptureError(f"it is compressed with {program}, and only gzip is understood")
            scanner = PcapScanner(head[:PCAP_HEADER])
        except CaptureError as error:
            raise CaptureError(f"{name} is no capture that can be read: {error}") from None
        self.scanner, self.start = scanner, PCAP_HEADER
        if scanner.link_type not in READABLE:
            self._left_out[scanner.link_type] += 1
            raise self._refusal()

    def _words(self) -> str:
        return ", ".join(f"{NAMES.get(kind, 'unknown')} ({kind})" for kind in sorted(self._left_out))

    def _refusal(self) -> CaptureError:
        return CaptureError(
            f"{self._name} has link type {self._words()}, which cannot become Ethernet frames"
        )

    def batch(self, data: NDArray[np.uint8], packets: Packets) -> PacketBatch:
        """Packets as a batch; bytes are copied only if some are no Ethernet frames yet."""
        offset, length, wire_length, time, link_type = packets
        if (link_type != ETHERNET).any():
            kinds, counts = np.unique(link_type, return_counts=True)
            bad = {int(k): int(n) for k, n in zip(kinds, counts, strict=True) if int(k) not in READABLE}
            if bad:
                self._left_out.update(bad)
                keep = ~np.isin(link_type, list(bad))
                offset, length, wire_length = offset[keep], length[keep], wire_length[keep]
                time, link_type = time[keep], link_type[keep]
            data, offset, length, wire_length = to_ethernet(data, offset, length, wire_length, link_type)
        self._read += len(offset)
        return PacketBatch(data, offset, length, wire_length, self._port, time)

    def finish(self, at: int, left: int, why: str | None) -> None:
        """Say what could not be read: `left` bytes from byte `at` on, and packets of strange link types."""
        if left or why:
            why = why or f"the file ends in a record, {left} bytes behind its beginning"
            _warn(f"{self._name} broke at byte {at}: {why}")
        if self._left_out and not self._read:
            raise self._refusal()
        if self._left_out:
            count = self._left_out.total()
            what = "packet is" if count == 1 else "packets are"
            _warn(f"{self._name}: {count} {what} left out, of link type {self._words()}")
