"""Saved tables: written, mapped, refused."""

from __future__ import annotations

import os
import stat
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kubenet_fastpath as kf

ROUTES = {
    4: {
        "0.0.0.0/0": 1,
        "10.0.0.0/8": 2,
        "10.244.0.0/16": 3,
        "10.244.1.0/24": 4,
        "10.244.1.128/25": 5,
        "10.244.1.7": 2**31,
    },
    6: {
        "::/0": 1,
        "2001:db8::/32": 2,
        "2001:db8:1::/48": 3,
        "2001:db8:1:2::/64": 4,
        "2001:db8:1:2:3::/80": 2**31,
        "::1": 6,
    },
}
TABLES = [(4, "16-8-8"), (4, "24-8"), (4, "rank"), (6, "b+tree")]
CRC = 60  # where the checksum is: the last 4 octets of the head


def table_of(family: int, engine: str) -> kf.RouteTable:
    routes = dict(ROUTES[family])
    if family == 6:  # nodes of every kind
        routes |= {f"2001:db8:{i:x}::/48": i for i in range(16, 400)}
        routes |= {f"2001:db9:{i:x}::/48": i for i in range(16, 60)}
    return kf.RouteTable(routes, family=family, engine=engine)


def keys_of(family: int) -> np.ndarray:
    draw = np.random.default_rng(7)
    if family == 4:
        keys = draw.integers(0, 1 << 32, 4000, np.uint64).astype(np.uint32)
        keys[:2000] = (0x0AF40000 + draw.integers(0, 1024, 2000)).astype(np.uint32)
        return keys
    keys = draw.integers(0, 256, (4000, 16)).astype(np.uint8)
    keys[:3000, :4] = np.frombuffer(bytes.fromhex("20010db8"), np.uint8)
    keys[:3000, 4] &= 1
    keys[2000:3000, 3] += keys[2000:3000, 15] & 1
    keys[:1000, 4:10] = np.frombuffer(bytes.fromhex("000100020003"), np.uint8)
    return keys


def sealed(image: bytes) -> bytes:
    """The image with a checksum that is right."""
    crc = zlib.crc32(image[64:], zlib.crc32(image[:CRC]))
    return image[:CRC] + crc.to_bytes(4, "little") + image[64:]


IMAGES = {
    (family, engine): table_of(family, engine).to_bytes() for family, engine in TABLES if engine != "24-8"
}


def used_octets(image: bytes) -> np.ndarray:
    """Those of lines that have more than misses."""
    lines = np.unique(np.flatnonzero(np.frombuffer(image, np.uint8) != 0xFF) // 64)
    return np.minimum(lines[:, None] * 64 + np.arange(64), len(image) - 1).ravel()


USED = {table: used_octets(image) for table, image in IMAGES.items()}


@pytest.mark.parametrize(("family", "engine"), TABLES)
def test_a_saved_table_is_the_same(family: int, engine: str, tmp_path: Path) -> None:
    table, path, keys = table_of(family, engine), tmp_path / "routes", keys_of(family)
    table.save(path)
    first, second = kf.RouteTable.open(path), kf.RouteTable.open(str(path))
    assert (first.engine, first.family, len(first)) == (engine, family, len(table))
    np.testing.assert_array_equal(first.lookup(keys), table.lookup(keys))
    assert first.items() == table.items()
    before = path.read_bytes()
    prefix = next(iter(first))
    del first[prefix]  # changes a copy in memory
    assert path.read_bytes() == before
    assert prefix in second
    assert prefix not in first
    np.testing.assert_array_equal(second.lookup(keys), table.lookup(keys))
    first.save(path)  # `second` keeps what it has mapped
    np.testing.assert_array_equal(second.lookup(keys), table.lookup(keys))
    assert len(kf.RouteTable.open(path)) == len(table) - 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["routes"]


def test_an_image_may_lie_anywhere() -> None:
    image = IMAGES[6, "b+tree"]
    want = kf.RouteTable.from_buffer(image).lookup(keys_of(6))
    for offset in (0, 1, 8, 63):
        memory = bytearray(len(image) + offset)
        memory[offset:] = image
        table = kf.RouteTable.from_buffer(memoryview(memory)[offset:])
        np.testing.assert_array_equal(table.lookup(keys_of(6)), want)


@pytest.mark.parametrize("content", [b"", b"KFROUTES", b"x" * 4096, b"KFROUTES" + bytes(4096)])
def test_what_is_no_table_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "routes"
    path.write_bytes(content)
    with pytest.raises(kf.TableFileError):
        kf.RouteTable.open(path)


def test_a_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        kf.RouteTable.open(tmp_path / "routes")
    with pytest.raises(FileNotFoundError):
        kf.RouteTable().save(tmp_path / "folder" / "routes")


@pytest.mark.parametrize(("family", "engine"), list(IMAGES))
def test_a_cut_image_is_refused(family: int, engine: str) -> None:
    image = IMAGES[family, engine]
    for size in {*range(0, 200, 7), len(image) // 2, len(image) - 64, len(image) - 1}:
        with pytest.raises(kf.TableFileError):
            kf.RouteTable.from_buffer(image[:size])
    with pytest.raises(kf.TableFileError):
        kf.RouteTable.from_buffer(image + b"\0")


def test_another_version_is_named() -> None:
    image = bytearray(IMAGES[4, "16-8-8"])
    image[8] = 77
    with pytest.raises(kf.TableFileError, match="version 77"):
        kf.RouteTable.from_buffer(sealed(bytes(image)))


@pytest.mark.parametrize(("family", "engine"), list(IMAGES))
def test_an_accident_is_found(family: int, engine: str) -> None:
    image = IMAGES[family, engine]
    for at in np.random.default_rng(3).integers(0, len(image), 60).tolist():
        broken = bytearray(image)
        broken[at] ^= 4
        with pytest.raises(kf.TableFileError):
            kf.RouteTable.from_buffer(broken)


@pytest.mark.parametrize(("family", "engine"), list(IMAGES))
@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 255)), min_size=1, max_size=6), st.booleans())
def test_a_hostile_image_crashes_nothing(
    family: int, engine: str, changes: list[tuple[int, int]], head: bool
) -> None:
    """Whatever passes can be looked up in, read and changed; the answers may be nonsense."""
    image = bytearray(IMAGES[family, engine])
    used = USED[family, engine]
    for at, value in changes:
        image[at % 64 if head else int(used[at % len(used)])] = value
    try:
        table = kf.RouteTable.from_buffer(sealed(bytes(image)))
    except kf.TableFileError:
        return
    table.lookup(keys_of(table.family))
    table.lookup(keys_of(table.family)[:5])
    try:
        table[(0, 0)] = 9
        table.lookup_all(keys_of(table.family)[:50])
    except (kf.AddressError, ValueError):
        pass  # its prefixes are none


def test_an_arena_beyond_offsets_of_32_bits_is_refused(tmp_path: Path) -> None:
    lines = (1 << 26) + 1
    head = bytearray(IMAGES[6, "b+tree"][:64])
    arena = int.from_bytes(head[40:48], "little")
    head[16:24] = (arena + 64 * lines).to_bytes(8, "little")
    head[52:56] = lines.to_bytes(4, "little")
    head[56:60] = bytes(4)
    (tmp_path / "routes").write_bytes(head)
    os.truncate(tmp_path / "routes", arena + 64 * lines + 64)  # a hole: it takes no room
    with pytest.raises(kf.TableFileError, match=r"routes: .*its head does not fit"):
        kf.RouteTable.open(tmp_path / "routes")


def test_ends_behind_the_last_one_lead_nowhere() -> None:
    """Lookups count all ends of a node below a slice, those behind the last LINE too."""
    routes = {f"10.1.{i}.{4 * k}/30": (i + k) % 30 for i in range(40) for k in range(60)}
    image = bytearray(kf.RouteTable(routes, engine="rank").to_bytes())
    arena = int.from_bytes(image[40:48], "little")
    words = np.frombuffer(image, np.uint16)
    slots = np.unique(words[arena // 2 :])
    nodes = 0
    for node in ((slots[slots >= 0x8000] & 0x7FFF).astype(int) * 256 + arena).tolist():
        ends = words[node // 2 : node // 2 + 32].astype(int)
        last = np.flatnonzero(ends == 0xFFFF)
        if len(last) and 0 < last[0] < 31 and (np.diff(ends[: last[0] + 1]) > 0).all():
            broken = bytearray(image)
            broken[node + 2 * last[0] + 2 : node + 64] = bytes(62 - 2 * last[0])
            try:  # what lies in spare memory may look like a slot, and leads to nothing that is used
                kf.RouteTable.from_buffer(sealed(bytes(broken)))
            except kf.TableFileError:
                nodes += 1
    assert nodes >= 40


def test_trees_lead_nowhere_else() -> None:
    """The last child of an INNER has to be the last, and the leaves of a NODE lie in the arena."""
    routes = {f"2001:db8:{i:x}::/48": i for i in range(700)} | {"2a00:1::/32": 5}
    image = kf.RouteTable(routes, family=6).to_bytes()
    arena, lines = int.from_bytes(image[40:48], "little"), int.from_bytes(image[52:56], "little")
    assert image[arena] == 1  # levels of INNERs
    root = np.frombuffer(image, np.uint32, 1 << 16, int.from_bytes(image[32:40], "little"))
    inner = bytearray(image)
    at = arena + 256 * (int(root[0x2001]) & 0x7FFF)
    inner[at + 60 : at + 64] = b"\xfe\xff\xff\xff"
    for i in range(15):  # all ends are in order, and all children there
        inner[at + 4 * i : at + 4 * i + 4] = (i + 1).to_bytes(4, "little")
        inner[at + 64 + 4 * i : at + 68 + 4 * i] = inner[at + 64 : at + 68]
    inner[at + 124 : at + 128] = inner[at + 64 : at + 68]
    inner[at + 128 : at + 132] = inner[at + 64 : at + 68]
    node = bytearray(image)
    at = arena + 64 * (lines - 4)
    assert at > arena + 256 * (int(root[0x2A00]) & 0x7FFF)  # the last tree's NODE
    for i in range(16):
        node[at + 4 * i : at + 4 * i + 4] = (i + 1).to_bytes(4, "little")
    for broken in (inner, node):
        with pytest.raises(kf.TableFileError):
            kf.RouteTable.from_buffer(sealed(bytes(broken)))


@pytest.mark.parametrize(("at", "value"), [(-1, 77), (-2, 1), (-6, 255)])
def test_damaged_prefixes_are_named(at: int, value: int) -> None:
    """Length, network and next hop of a table whose arrays are as they should be."""
    image = bytearray(kf.RouteTable({"10.0.0.0/8": 1, "10.0.0.0/9": 2}).to_bytes())
    if at == -6:
        image[at : at + 4] = b"\xff" * 4
    image[at] = value
    table = kf.RouteTable.from_buffer(sealed(bytes(image)))
    for _ in range(2):
        with pytest.raises(kf.TableFileError, match="prefixes are damaged"):
            table.items()
    assert table.lookup(np.array([0x0A000001], np.uint32)).tolist() == [2]


def test_two_threads_read_a_new_table() -> None:
    """Each makes the RIB of the image; what one has removed then, the other must not bring back."""
    n = 200_000
    networks = np.arange(n, dtype=np.uint32) << np.uint32(8)
    image = kf.RouteTable.from_arrays(networks, np.full(n, 24, np.uint8), np.ones(n, np.uint32)).to_bytes()
    for _ in range(6):
        table, ready = kf.RouteTable.from_buffer(image), threading.Barrier(2)

        def read(table: kf.RouteTable = table, ready: threading.Barrier = ready) -> None:
            ready.wait()
            table.get("0.0.1.0/24")
            table.lookup_all(networks[:5000])

        reader = threading.Thread(target=read)
        reader.start()
        ready.wait()
        del table["0.0.0.0/24"]
        reader.join()
        assert "0.0.0.0/24" not in table
        assert len(table) == n - 1


def test_a_saved_file_has_the_rights_of_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a change of the process's umask, which other threads would see."""
    with monkeypatch.context() as patch:
        patch.delattr(os, "umask")
        kf.RouteTable().save(tmp_path / "routes")
    (tmp_path / "other").touch()
    assert (tmp_path / "routes").stat().st_mode == (tmp_path / "other").stat().st_mode
    kf.RouteTable().save(os.fsencode(tmp_path / "bytes"))
    with pytest.raises(IsADirectoryError):
        kf.RouteTable().save(tmp_path)


def test_links_and_pipes_stay_what_they_are(tmp_path: Path) -> None:
    table, target, link, pipe = IMAGES[6, "b+tree"], tmp_path / "target", tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(target)
    kf.RouteTable.from_buffer(table).save(link)
    assert link.is_symlink()
    assert target.read_bytes() == table
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    kf.RouteTable.from_buffer(table).save(pipe)
    reader.join()
    assert got == [table]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_every_octet_of_the_head() -> None:
    for image in IMAGES.values():
        for at in range(64):
            for value in (0, 1, 0x7F, 0xFF, image[at] ^ 1):
                broken = bytearray(image)
                broken[at] = value
                try:
                    table = kf.RouteTable.from_buffer(sealed(bytes(broken)))
                except kf.TableFileError:
                    continue
                table.lookup(keys_of(table.family))
