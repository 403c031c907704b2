"""`fragment` against a model, and against reassembly: what was split comes back."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import fragment as model
from models.defrag import header_checksum

import kubenet_fastpath.fragment as module
from kubenet_fastpath.fragment import fragment
from kubenet_fastpath.fragment_table import Datagram, FragmentTable

ETHERNET = bytes.fromhex("0a580af40101 0a580af40102")
LINKS = [b"", b"\x81\x00\x00\x05", b"\x88\xa8\x00\x05\x81\x00\x00\x06"]


def ipv4(payload, *, word=0, options=b"", link=b"", identification=7, tos=0, proto=17):
    """A frame around one IPv4 packet; `word` is flags and offset."""
    total = 20 + len(options) + len(payload)
    header = bytearray([0x45 + len(options) // 4, tos]) + total.to_bytes(2, "big")
    header += identification.to_bytes(2, "big") + word.to_bytes(2, "big") + bytes([64, proto, 0, 0])
    header += bytes([10, 244, 1, 2, 198, 51, 100, 7]) + options
    header[10:12] = header_checksum(header)
    return ETHERNET + link + b"\x08\x00" + bytes(header) + payload


# options as they come, and as they are in all fragments but the first
OPTIONS = {
    "01010101": "01010101",  # no-operations
    "94040000": "94040000",  # router alert: copied
    "070b04000000000000000000": "010101010101010101010100",  # record route: not copied
    "94040000 0707040000000000 83030400": "94040000 0101010101010100 83030400",  # 00 ends the list
    "94040000 0708040000000000 83030400": "94040000 0101010101010101 83030400",
    "4408050000000000 00440303": "0101010101010101 00440303",  # behind the end of the list
    "94000707": "94000707",  # a length of 0: the rest is left alone
    "07010707": "07010707",  # of 1: likewise
    "07050707": "07050707",  # beyond the header: likewise
    "07040707": "01010101",
    "01010107": "01010107",  # cut off behind its type
}
options = st.sampled_from(sorted(OPTIONS)).map(bytes.fromhex) | st.binary(max_size=40)
padded = options.map(lambda text: text + bytes(-len(text) % 4))
payloads = st.integers(1, 200) | st.integers(1400, 3000)
mtus = st.integers(68, 200) | st.sampled_from([576, 1280, 1400, 1499, 1500])


@st.composite
def geometries(draw, n):
    """Sizes in which n bytes of payload may have come."""
    sizes = []
    while (left := n - sum(sizes)) > 0:
        sizes.append(min(left, 8 * draw(st.integers(max(1, n // 160), 1 + n // 8))))
    return sizes


@given(st.data(), payloads, mtus, padded, st.sampled_from(LINKS), st.booleans(), st.booleans(), st.booleans())
def test_agrees_with_the_model(data, n, mtu, options, link, df, cloned, bridged):
    word = data.draw(st.sampled_from([0, 0, 0x4000, 0x2000, 0x2007, 0x0007, 0x8000]))
    sizes = data.draw(st.just([]) | geometries(n))
    if sizes:
        largest = max(sizes) + 20 + len(options)
        max_size = data.draw(st.sampled_from([largest, largest, 200]))
    else:
        max_size = 0
    frame = ipv4(bytes(range(256)) * 12, word=word, options=options, link=link)
    frame = ipv4(frame[-n:], word=word, options=options, link=link)
    kinds = {"sizes": sizes, "max_size": max_size, "df": df and bool(sizes)}
    kinds |= {"cloned": cloned, "bridged": bridged}
    if min(mtu, max_size or mtu) < 28 + len(options):
        if not max_size and len(frame) - 14 - len(link) <= mtu:
            return
        with pytest.raises(ValueError, match="leaves no room"):
            fragment(frame, mtu, **kinds)
        return
    assert fragment(frame + b"padding", mtu, **kinds) == model.fragment(frame, 14 + len(link), mtu, **kinds)


@given(st.data(), payloads, mtus, padded)
def test_comes_back_in_any_order(data, n, mtu, options):
    frame = ipv4((b"The quick brown fox." * 150)[:n], options=options)
    parts = data.draw(st.permutations(fragment(frame, mtu)))
    table = FragmentTable(max_distance=0)
    if len(parts) == 1:
        assert parts == [frame]
        return
    *held, whole = [table.add(part, now=0) for part in parts]
    assert not any(held)
    assert isinstance(whole, Datagram)
    assert whole.frame == frame
    again = fragment(whole.frame, 1500, sizes=whole.sizes, max_size=whole.max_size, df=whole.df)
    assert sorted(again) == sorted(parts)


@pytest.mark.parametrize(("first", "later"), OPTIONS.items())
def test_later_fragments_carry_the_options_that_are_to_be_copied(first, later):
    first, later = bytes.fromhex(first), bytes.fromhex(later)
    packet = ipv4(bytes(200), options=first)
    for kinds in ({}, {"sizes": [64, 64, 72], "max_size": 92 + len(first)}):
        got = [part[34 : 34 + len(first)] for part in fragment(packet, 100, **kinds)]
        assert got == [first] + [later] * (len(got) - 1)
        assert len(got) > 2
        assert all(part[34:].startswith(first) for part in fragment(packet, 100, bridged=True, **kinds))


@pytest.mark.parametrize("sizes", [(1480, 1088), (552, 552, 552, 552, 360), (1480, 80, 400, 608)])
def test_keeps_the_pieces_in_which_a_packet_came(sizes):
    packet = ipv4(bytes(sum(sizes)))
    parts = fragment(packet, 1500, sizes=sizes, max_size=max(sizes) + 20, df=True)
    assert [len(part) - 34 for part in parts] == list(sizes)
    assert not any(part[20] & 0x40 for part in parts)  # the kernel loses DF here, and so do we
    cut = fragment(packet, 1500, sizes=sizes, max_size=max(sizes) + 20, df=True, cloned=True)
    assert {len(part) - 34 for part in cut[:-1]} == {max(sizes)}
    assert all(part[20] & 0x40 for part in cut)


@pytest.mark.parametrize(
    ("frame", "mtu", "kinds"),
    [
        (b"", 1500, {}),
        (ETHERNET + b"\x08\x00", 1500, {}),
        (bytes(60), 1500, {}),
        (ipv4(b"x" * 100)[:60], 1500, {}),
        (ipv4(b"x" * 100), 27, {}),
        (ipv4(b"x" * 100), -1, {}),
        (ipv4(b"x" * 100), 1500, {"sizes": [8, 8], "max_size": 28}),
        (ipv4(b"x" * 8), 1500, {"sizes": [16, -8], "max_size": 28}),
        (ipv4(b"x" * 100), 1500, {"sizes": [96, 4], "max_size": 1 << 16}),
    ],
)
def test_refuses(frame, mtu, kinds):
    with pytest.raises(ValueError):  # noqa: PT011
        fragment(frame, mtu, **kinds)


def test_the_documented_example_holds():
    assert doctest.testmod(module).failed == 0
