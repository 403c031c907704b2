"""Frames that go into a network namespace as fast as the kernel takes them: sendmmsg on a packet socket."""

from __future__ import annotations

import ctypes
import re
import socket
import time
from pathlib import Path

from .frames import Frames
from .kernel_node import enter

PACKET_QDISC_BYPASS = 20
BATCH = 256


class Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint32),
        ("parts", ctypes.c_void_p),
        ("n_parts", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("unused", ctypes.c_int),  # struct msghdr ends at a multiple of 8
        ("sent", ctypes.c_uint),
    )


class Part(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class Sender:
    """A round of frames that go out by an interface, `BATCH` a system call.

    Parameters
    ----------
    namespace, interface : str
        Where they go out.
    arrives : str
        The interface of the same namespace where all of them arrive.
    frames : (N, B) ndarray of uint8
        In turn.
    packets : int
        A round.

    Attributes
    ----------
    timer : callable
        The wall's, in ns: some of the kernel's work is done by ksoftirqd, on the same CPU.
    """

    timer = staticmethod(time.perf_counter_ns)

    def __init__(self, namespace: str, interface: str, arrives: str, frames: Frames, packets: int) -> None:
        self.packets, self._arrives = packets, arrives
        self._libc = ctypes.CDLL(None, use_errno=True)
        enter(namespace)
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.bind((interface, 0))
            self._socket.setsockopt(263, PACKET_QDISC_BYPASS, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 24)
            self._counters = Path("/proc/thread-self/net/dev").open()  # noqa: SIM115
        finally:
            enter(None)
        self._frames = [row.tobytes() for row in frames]
        places = [ctypes.cast(ctypes.c_char_p(row), ctypes.c_void_p) for row in self._frames]
        size, step = frames.shape[1], ctypes.sizeof(Part)
        self._parts = (Part * packets)(*(Part(places[i % len(places)], size) for i in range(packets)))
        first = ctypes.addressof(self._parts)
        self._messages = (Message * packets)(
            *(Message(parts=first + i * step, n_parts=1) for i in range(packets))
        )

    def received(self) -> int:
        """Packets that have arrived at the interface where they should."""
        self._counters.seek(0)
        found = re.search(rf"^\s*{self._arrives}:\s*\d+\s+(\d+)", self._counters.read(), re.MULTILINE)
        assert found is not None
        return int(found[1])

    def restore(self) -> None:
        """Nothing changes."""

    def run(self) -> None:
        """Send all of them, until all have arrived."""
        before, size = self.received(), ctypes.sizeof(Message)
        for at in range(0, self.packets, BATCH):
            sent, count = 0, min(BATCH, self.packets - at)
            while sent < count:
                place = ctypes.byref(self._messages, (at + sent) * size)
                n = self._libc.sendmmsg(self._socket.fileno(), place, count - sent, 0)
                if n < 0:
                    raise OSError(ctypes.get_errno(), "sendmmsg")
                sent += n
        for _ in range(100):
            if self.received() - before >= self.packets:
                return
            time.sleep(0.001)
        came = self.received() - before
        raise RuntimeError(f"{self.packets} frames went in, {came} came out of {self._arrives}")

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()
        self._counters.close()
