"""DPDK's longest-prefix libraries and its hash as peers: `dpdk_lookup.c`, compiled against what is installed when it is
needed.

Debian has DPDK as libdpdk-dev. Neither a network card nor privileges are needed; memory comes in ordinary pages, made
huge by madvise, as RouteTable's.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .route_peers import MISS, Absent
from .route_tables import Routes

SOURCE = Path(__file__).with_name("dpdk_lookup.c")
MEMORY = 3 << 29  # bytes, which DPDK clears once: enough for a full table twice, rules included
SPARE = 64  # groups more than the prefixes need
FIB, LPM, FIB6, LPM6 = range(4)
MISS_OF = {(FIB, 2): 0x7FFF, (FIB, 4): 0x7FFF_FFFF, (FIB6, 2): 0x7FFF, (FIB6, 4): 0x7FFF_FFFF}
BATCH = 256

_UNLOADED: list[Any] = []


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Absent(f"DPDK: {command[0]} failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


@cache
def library() -> ctypes.CDLL:
    """The compiled shim, with DPDK's environment set up once a process."""
    compiler = os.environ.get("CC", "cc")
    for tool in ("pkg-config", compiler):
        if shutil.which(tool) is None:
            raise Absent(f"DPDK: {tool} is not installed")
    if subprocess.run(["pkg-config", "--exists", "libdpdk"], check=False).returncode:
        raise Absent("DPDK is not installed: apt install libdpdk-dev")
    flags = _output("pkg-config", "--cflags", "--libs", "libdpdk").split()
    with tempfile.TemporaryDirectory() as folder:
        shared = f"{folder}/dpdk_lookup.so"
        _output(compiler, "-O3", "-march=native", "-shared", "-fPIC", str(SOURCE), "-o", shared, *flags)
        loaded = ctypes.CDLL(shared)
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    loaded.peer_new.restype = pointer
    loaded.peer_new.argtypes = [ctypes.c_int, ctypes.c_int, *[ctypes.c_uint32] * 3]
    loaded.peer_add.restype = size
    loaded.peer_add.argtypes = [pointer, pointer, pointer, pointer, size]
    loaded.peer_select.argtypes = [pointer, ctypes.c_int]
    loaded.peer_lookup.restype = None
    loaded.peer_lookup.argtypes = [pointer, pointer, pointer, size, size, size]

    loaded.hash_new.restype = pointer
    loaded.hash_new.argtypes = [ctypes.c_uint32, ctypes.c_uint32]
    loaded.hash_free.restype = None
    loaded.hash_free.argtypes = [pointer]
    loaded.hash_add.restype = size
    loaded.hash_add.argtypes = [pointer, pointer, size, size]
    loaded.hash_lookup.restype = None
    loaded.hash_lookup.argtypes = [pointer, pointer, size, pointer, size]

    processors = os.sched_getaffinity(0)
    options = "bench --no-huge --no-pci --no-shconf --no-telemetry --log-level=*:error -m 64"
    options += " --force-max-simd-bitwidth=512"  # or it would take AVX-512 only if asked to
    words = [*options.split(), "-l", str(min(processors))]
    argv = (ctypes.c_char_p * len(words))(*(word.encode() for word in words))
    _UNLOADED.append(argv)  # DPDK keeps pointers into it
    if loaded.peer_init(len(words), argv, size(MEMORY)) < 0:
        raise Absent("DPDK: its environment or its memory cannot be set up; it says why above")
    os.sched_setaffinity(0, processors)  # it had bound the thread to one
    return loaded


def groups_of(routes: Routes) -> int:
    """Groups of 256 slots behind a table of 2**24: one for each octet string that a longer prefix begins with."""
    octets = (
        routes.networks.astype(">u4").view(np.uint8).reshape(-1, 4) if routes.family == 4 else routes.networks
    )
    lens = routes.prefix_lens
    return sum(
        len(np.unique(np.ascontiguousarray(octets[lens > 8 * n, :n]).view(f"V{n}")))
        for n in range(3, octets.shape[1])
        if (lens > 8 * n).any()
    )


def without_default(routes: Routes) -> Routes:
    """The same with the default route as two halves: rte_lpm and rte_lpm6 know no prefix of length 0."""
    default = np.flatnonzero(routes.prefix_lens == 0)
    if not len(default):
        return routes
    if (routes.prefix_lens == 1).any():
        raise Absent("DPDK: rte_lpm and rte_lpm6 have no default route")
    upper = np.zeros_like(routes.networks[default])
    upper[...] = 1 << 31 if routes.family == 4 else [128, *[0] * 15]
    lens = np.where(routes.prefix_lens == 0, 1, routes.prefix_lens)
    networks = np.concatenate([routes.networks, upper])
    hops = np.concatenate([routes.hops, routes.hops[default]])
    return Routes(routes.family, routes.name, networks, np.append(lens, 1).astype(np.uint8), hops)


class Table:
    """One of DPDK's tables; several `Dpdk` peers may look up in it."""

    def __init__(self, routes: Routes, kind: int, hop_bytes: int) -> None:
        self.kind, self.hop_bytes = kind, hop_bytes
        lib = library()
        if kind in (LPM, LPM6):
            routes = without_default(routes)
        groups = groups_of(routes) + SPARE
        if kind == FIB6:  # it reserves for the worst case: that no two prefixes share a group
            groups = int(np.maximum((routes.prefix_lens.astype(int) - 17) // 8, 0).sum()) + SPARE
        if hop_bytes == 2 and groups >= 1 << 15:
            raise Absent(f"DPDK: {self.name} has 32,767 groups, the table takes {groups - SPARE:,}")
        self.nbytes = ((1 << 24) + groups * 256) * hop_bytes
        miss = MISS_OF.get((kind, hop_bytes), 0)
        self.pointer = lib.peer_new(kind, hop_bytes, len(routes) + 1024, groups, miss)
        if not self.pointer:
            raise Absent(f"DPDK: no memory for {self.name}")
        networks, lens, hops = (
            np.ascontiguousarray(c) for c in (routes.networks, routes.prefix_lens, routes.hops)
        )
        added = lib.peer_add(
            self.pointer, networks.ctypes.data, lens.ctypes.data, hops.ctypes.data, len(lens)
        )
        if added != len(lens):
            raise Absent(f"DPDK: {self.name} holds {added:,} of the {len(lens):,} routes")

    @property
    def name(self) -> str:
        library_name = ("rte_fib DIR24-8", "rte_lpm", "rte_fib6 TRIE", "rte_lpm6")[self.kind]
        return f"{library_name} {self.hop_bytes}B" if self.kind in (FIB, FIB6) else library_name


class Dpdk:
    """A table with one of its lookup functions, in the call size that suits it better.

    Parameters
    ----------
    table : Table
    vector : bool
        AVX-512, which only rte_fib and rte_fib6 have.
    batch : int
        Addresses a call: 256, whose next hops go to the same 256 places; or all at once.
    """

    def __init__(self, table: Table, vector: bool, batch: int) -> None:
        self.table, self._vector, self._batch = table, vector, batch
        variant = (" AVX-512" if vector else " scalar") if table.kind in (FIB, FIB6) else ""
        self.name = f"DPDK {table.name}{variant}"
        self.nbytes = table.nbytes
        self._select, self._lookup = library().peer_select, library().peer_lookup
        if not self._select(table.pointer, vector):
            raise Absent(f"{self.name}: not on this CPU")
        self._type = {FIB: np.uint64, FIB6: np.uint64, LPM: np.uint32, LPM6: np.int32}[table.kind]
        self._out = np.empty(0, self._type)
        self._keys: Any = None

    def prepare(self, keys: NDArray[Any]) -> Any:
        self._keys = keys
        self._out = np.empty(len(keys), self._type)
        return keys

    def _run(self, stride: int) -> None:
        keys, out, pointer = self._keys, self._out, self.table.pointer
        self._select(pointer, self._vector)  # of a table, and its peers take turns
        self._lookup(pointer, keys.ctypes.data, out.ctypes.data, len(keys), self._batch, stride)

    def lookup(self, keys: Any) -> int:
        self._run(0)
        return len(keys)

    def hops(self) -> NDArray[np.uint32]:
        self._run(self._batch * self._out.itemsize)
        out = self._out
        if self.table.kind == LPM:  # bit 24: there is one
            return np.where(out & 0x100_0000, out & 0xFF_FFFF, MISS).astype(np.uint32)
        if self.table.kind == LPM6:
            return np.where(out < 0, MISS, out).astype(np.uint32)
        return np.where(out == MISS_OF[self.table.kind, self.table.hop_bytes], MISS, out).astype(np.uint32)


class Hash:
    """rte_hash: key `i` of those given has the number `i`."""

    name = "DPDK rte_hash bulk"

    def __init__(self, keys: NDArray[np.uint8]) -> None:
        self._pointer = library().hash_new(keys.shape[1], max(len(keys) * 9 // 8, 64))
        if not self._pointer:
            raise Absent(f"{self.name}: no memory for {len(keys):,} keys")
        added = library().hash_add(self._pointer, keys.ctypes.data, keys.shape[1], len(keys))
        if added != len(keys):
            raise Absent(f"{self.name}: {added:,} of {len(keys):,} keys went in")

        self.call = library().hash_lookup

    def lookup(self, keys: NDArray[np.uint8], out: NDArray[np.uint32]) -> None:
        self.call(*self.arguments(keys, out))

    def arguments(self, keys: NDArray[np.uint8], out: NDArray[np.uint32]) -> tuple[Any, ...]:
        """What `call` takes to find these keys; both arrays have to live until then."""
        return self._pointer, keys.ctypes.data, keys.shape[1], out.ctypes.data, len(keys)

    def close(self) -> None:
        library().hash_free(self._pointer)
