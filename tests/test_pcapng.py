"""pcapng files: sections, interfaces, packet blocks of three kinds, and what is passed over."""

from __future__ import annotations

import io
import warnings

import pytest
from captures import ETHERNET, NULL, RAW, SECOND, Section
from hypothesis import given
from hypothesis import strategies as st
from models.capture import pcapng

import kubenet_fastpath as kf

LITTLE, BIG = Section(), Section(big=True)
FRAME = bytes(range(61))


def read(content: bytes) -> kf.PacketBatch:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return kf.read_pcap(io.BytesIO(content))


@pytest.mark.parametrize("section", [LITTLE, BIG], ids=["little", "big"])
def test_packet_blocks(section: Section) -> None:
    batch = read(
        section.header()
        + section.interface()
        + section.interface(resolution=9)
        + section.enhanced(FRAME, 5_000_000_001, interface=0, cut=3)
        + section.simple(FRAME[:7])
        + section.obsolete(FRAME[:9], 7, interface=1, cut=1)
    )
    assert batch.frames() == [FRAME, FRAME[:7], FRAME[:9]]
    assert batch.time.tolist() == [5_000_000_001_000, 0, 7]
    assert batch.wire_length.tolist() == [64, 7, 10]


@pytest.mark.parametrize(
    ("resolution", "ticks", "time"),
    [
        (None, 1_700_000_000_123_456, 1_700_000_000_123_456_000),
        (0, 1_700_000_000, 1_700_000_000 * SECOND),
        (3, 5, 5_000_000),
        (9, 2**63 - 1, 2**63 - 1),
        (10, 19, 1),
        (12, 10**15 + 999, 10**12),
        (19, 2**64 - 1, 1_844_674_407),
        (28, 2**64 - 1, 1),
        (29, 2**64 - 1, 0),
        (127, 2**64 - 1, 0),
        (0x80, 3, 3 * SECOND),
        (0x80 | 30, 2**30 + 2**29, SECOND + SECOND // 2),
        (0x80 | 10, 3, 2_929_687),
        (0x80 | 64, 2**64 - 1, SECOND - 1),
        (0x80 | 127, 2**64 - 1, 0),
    ],
)
def test_resolutions(resolution: int | None, ticks: int, time: int) -> None:
    for section in (LITTLE, BIG):
        start = section.header() + section.interface(resolution=resolution)
        assert read(start + section.enhanced(FRAME, ticks)).time.tolist() == [time]


@pytest.mark.parametrize("offset", [0, 5, -3, 1_700_000_000, -1_700_000_000])
def test_offsets_of_time(offset: int) -> None:
    for section in (LITTLE, BIG):
        start = section.header() + section.interface(resolution=9, offset=offset)
        assert read(start + section.enhanced(FRAME, 7)).time.tolist() == [7 + offset * SECOND]


def test_sections_have_their_own_interfaces_and_byte_order() -> None:
    batch = read(
        LITTLE.header()
        + LITTLE.interface(resolution=9)
        + LITTLE.enhanced(FRAME, 1)
        + BIG.header()
        + BIG.interface(resolution=3)
        + BIG.interface(resolution=0)
        + BIG.enhanced(FRAME, 1, interface=1)
        + BIG.enhanced(FRAME, 1)
        + LITTLE.header(version=(1, 2))
        + LITTLE.interface()
        + LITTLE.enhanced(FRAME, 1)
    )
    assert batch.time.tolist() == [1, SECOND, 10**6, 1000]


def test_many_interfaces() -> None:
    content = LITTLE.header() + b"".join(LITTLE.interface(resolution=i % 10) for i in range(100))
    content += b"".join(LITTLE.enhanced(FRAME, 10**9, interface=i) for i in range(100))
    assert read(content).time.tolist() == [10**9 * 10 ** (9 - i % 10) for i in range(100)]


def test_simple_packets_end_at_the_snap_length() -> None:
    content = LITTLE.header() + LITTLE.interface(snaplen=5) + LITTLE.simple(FRAME[:5], 61)
    batch = read(content + LITTLE.simple(FRAME[:3]))
    assert batch.frames() == [FRAME[:5], FRAME[:3]]
    assert batch.wire_length.tolist() == [61, 3]


def test_other_blocks_are_passed_over() -> None:
    strange = [4, 5, 7, 8, 10, 0x0BAD, 0x40000BAD, 0x80000001, 0xFFFFFFFF]
    content = LITTLE.header() + LITTLE.interface()
    for kind in strange:
        content += LITTLE.block(kind, bytes(kind % 50)) + LITTLE.enhanced(FRAME)
    assert len(read(content)) == len(strange)


def test_options_of_an_interface() -> None:
    body = LITTLE.pack("HHI", ETHERNET, 0, 0)
    odd = LITTLE.pack("HH", 2, 3) + b"abc\0"
    nano = LITTLE.pack("HH", 9, 1) + b"\x09\0\0\0"
    for options, time in [
        (odd + nano, 5),
        (nano[:5], 5),
        (odd + bytes(4) + nano, 5000),  # behind the end of options
        (LITTLE.pack("HH", 9, 0) + odd, 5000),  # an empty one
        (LITTLE.pack("HH", 2, 999) + nano, 5000),  # one that is longer than the block
    ]:
        content = LITTLE.header() + LITTLE.block(1, body + options) + LITTLE.enhanced(FRAME, 5)
        assert read(content).time.tolist() == [time]


def test_packets_of_strange_link_types_are_left_out() -> None:
    content = (
        LITTLE.header()
        + LITTLE.interface(NULL)
        + LITTLE.interface()
        + LITTLE.interface(RAW)
        + LITTLE.interface(9)
    )
    content += b"".join(LITTLE.enhanced(FRAME, interface=i) for i in (0, 1, 0, 2, 3))
    words = r"the file: 3 packets are left out, of link type NULL \(0\), PPP \(9\)"
    for each in (1, 2, 99):
        with pytest.warns(kf.CaptureWarning, match=words) as caught:
            batches = list(kf.iter_pcap(io.BytesIO(content), batch_packets=each))
        assert len(caught) == 1
        assert next(frame for batch in batches for frame in batch.frames()) == FRAME
        assert sum(map(len, batches)) == 2
    with pytest.warns(kf.CaptureWarning, match=words):
        assert len(kf.read_pcap(io.BytesIO(content))) == 2
    only = LITTLE.header() + LITTLE.interface(NULL) + LITTLE.enhanced(FRAME) * 3
    for read_all in (kf.read_pcap, lambda file: list(kf.iter_pcap(file, batch_packets=1))):
        with pytest.raises(kf.CaptureError, match=r"has link type NULL \(0\)"):
            read_all(io.BytesIO(only))


def test_no_packets() -> None:
    assert len(read(LITTLE.header())) == 0
    assert len(read(LITTLE.header() + LITTLE.interface(NULL))) == 0


START = LITTLE.header() + LITTLE.interface() + LITTLE.enhanced(FRAME)


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        (LITTLE.enhanced(FRAME, interface=1), "a packet block is not sound"),
        (LITTLE.block(6, bytes(19)[:16]), "a packet block is not sound"),
        (LITTLE.block(3, b""), "a packet block is not sound"),
        (LITTLE.block(6, LITTLE.pack("IIIII", 0, 0, 0, 61, 61) + FRAME[:60]), "a packet block is not sound"),
        (LITTLE.block(1, bytes(4)), "an interface description is too short"),
        (LITTLE.pack("III", 6, 10, 10), "a block's length cannot be"),
        (LITTLE.pack("III", 6, 18, 18) + bytes(6), "a block's length cannot be"),
        (LITTLE.pack("III", 6, (16 << 20) + 4, 0), "a block's length cannot be"),
        (bytes(12), "a block's length cannot be"),
        (LITTLE.block(6, bytes(20))[:-1] + b"\1", "the two lengths of a block differ"),
        (LITTLE.header(version=(2, 0)), "a section is of a version that is not known"),
        (LITTLE.pack("IIII", 0x0A0D0D0A, 16, 0x1A2B3C4D, 16), "a section is of a version that is not known"),
        (LITTLE.pack("III", 0x0A0D0D0A, 28, 7) + bytes(16), "a section header has no byte-order magic"),
        (LITTLE.enhanced(FRAME)[:-1], "the file ends in a record, 107 bytes behind"),
        (b"\x06\0", "the file ends in a record, 2 bytes behind"),
        (LITTLE.block(0x99, bytes(99))[:-3], "the file ends in a record"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_broken_files_give_what_is_in_front(tail: bytes, words: str) -> None:
    for read_all in (kf.read_pcap, lambda file: kf.PacketBatch.concatenate(kf.iter_pcap(file))):
        with pytest.warns(kf.CaptureWarning, match=f"broke at byte {len(START)}: {words}") as caught:
            assert read_all(io.BytesIO(START + tail)).frames() == [FRAME]
        assert len(caught) == 1


@pytest.mark.parametrize("length", range(4, len(LITTLE.header())))
def test_a_file_that_ends_in_its_section_header(length: int) -> None:
    with pytest.warns(kf.CaptureWarning, match="broke at byte 0"):
        assert len(kf.read_pcap(io.BytesIO(LITTLE.header()[:length]))) == 0


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Sections of either byte order, their interfaces and packets in any order."""
    content = b""
    for _ in range(draw(st.integers(1, 2))):
        section = Section(draw(st.booleans()))
        content += section.header()
        interfaces = 0
        for kind in draw(st.lists(st.sampled_from("iieeesox"), max_size=7)):
            frame, ticks = draw(st.binary(max_size=9)), draw(st.integers(0, 2**64 - 1) | st.integers(0, 9))
            number, cut = draw(st.integers(0, max(interfaces - 1, 0))), draw(st.integers(0, 9))
            if kind == "i" or not interfaces:
                content += section.interface(
                    draw(st.sampled_from([1, 1, 101, 0])),
                    draw(st.sampled_from([0, 4])),
                    draw(st.none() | st.integers(0, 255)),
                    draw(st.none() | st.integers(-(2**63), 2**63 - 1)),
                )
                interfaces += 1
            elif kind == "e":
                content += section.enhanced(frame, ticks, number, cut)
            elif kind == "s":
                content += section.simple(frame)
            elif kind == "o":
                content += section.obsolete(frame, ticks, number, cut)
            else:
                content += section.block(
                    draw(st.integers(7, 2**32 - 1).filter(lambda n: n != 0x0A0D0D0A)), frame
                )
    return content


@given(files(), st.data())
def test_files_are_read_as_the_model_reads_them(content: bytes, data: st.DataObject) -> None:
    content = content[: data.draw(st.just(len(content)) | st.integers(4, len(content)), label="end")]
    packets, breaks = pcapng(content)
    seen = [packet for packet in packets if packet.link_type != NULL]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if packets and not seen:
            with pytest.raises(kf.CaptureError, match="NULL"):
                kf.read_pcap(io.BytesIO(content))
            return
        batch = kf.read_pcap(io.BytesIO(content))
    assert len(caught) == (breaks is not None) + (len(seen) < len(packets))
    assert f"byte {breaks}: " in str(caught[0].message) if breaks is not None else True
    assert batch.time.tolist() == [packet.time for packet in seen]
    assert batch.truncated.tolist() == [packet.wire_length > len(packet.data) for packet in seen]
    for frame, packet in zip(batch.frames(), seen, strict=True):
        assert frame[14 if packet.link_type == RAW else 0 :] == packet.data
