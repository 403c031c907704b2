"""Address texts, with `ipaddress` as the oracle."""

from __future__ import annotations

import ctypes
import gc
import ipaddress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kubenet_fastpath as kf
from kubenet_fastpath import isa
from kubenet_fastpath.address_text import TextColumn, address_texts, parse_addresses

ADDRESS = {4: ipaddress.IPv4Address, 6: ipaddress.IPv6Address}
SAMPLES = [
    *(
        "0.0.0.0",
        "255.255.255.255",
        "1.2.3.4",
        "10.244.1.007",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "1..2.3",
        "",
    ),
    *(
        "::",
        "::1",
        "1::",
        "::1.2.3.4",
        "1:2:3:4:5:6:7:8",
        "1:2:3:4:5:6:1.2.3.4",
        "1:2:3:4:5:6:7::",
        "::2:3:4:5:6:7:8",
    ),
    *(
        "1::2::3",
        ":1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:",
        ":::",
        "12345::",
        "fe80::1%eth0",
        "1.2.3.4 ",
        " ::",
        "+1.2.3.4",
    ),
    *(
        "1:2:3:4:5:6:7:8:9",
        "1::2:3:4:5:6:7:8",
        "::01.2.3.4",
        "::1.2.3",
        "FFFF::aBcD",
        "1.2.3.4\x00",
        "\x00",
        "\u0661.2.3.4",
    ),
    "1111:2222:3333:4444:5555:6666:255.255.255.255",
]


def oracle(text: str, family: int) -> int | None:
    try:
        return None if "%" in text else int(ADDRESS[family](text))
    except ValueError:
        return None


def results(texts: Any, family: int, variant: str | None = None) -> list[int | None]:
    addresses, ok = parse_addresses(texts, family, isa=variant)
    numbers = (
        addresses.tolist() if family == 4 else [int.from_bytes(row.tobytes(), "big") for row in addresses]
    )
    assert not any(number for number, good in zip(numbers, ok, strict=True) if not good)
    return [number if good else None for number, good in zip(numbers, ok, strict=True)]


@st.composite
def valid_texts(draw: st.DrawFn) -> str:
    """Texts of addresses in every form, many zero groups among them."""
    if draw(st.booleans()):
        return ".".join(str(draw(st.integers(0, 260))) for _ in range(4))
    groups = [draw(st.sampled_from([0, 0, 1, 0xA, 0x10, 0xABC, 0xFFFF])) for _ in range(8)]
    text = ":".join(draw(st.sampled_from(["{:x}", "{:04x}", "{:X}"])).format(group) for group in groups)
    form = draw(st.integers(0, 3))
    if form == 1:
        return str(ipaddress.IPv6Address(text))
    if form == 2:
        text = ":".join(text.split(":")[:6] + ["192.0.2.33"])
    if form == 3:
        parts = text.split(":")
        first, last = draw(st.integers(0, 8)), draw(st.integers(0, 8))
        text = ":".join(parts[:first]) + "::" + ":".join(parts[last:])
    return text


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Valid texts with a few characters replaced, inserted or left out."""
    text = list(draw(valid_texts()))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(text)))
        text[at : at + draw(st.integers(0, 1))] = draw(st.sampled_from(["", *"0159afAFgG:.%/ -\x00\n\u0661"]))
    return "".join(text)


@pytest.mark.parametrize("variant", isa.available())
@pytest.mark.parametrize("family", [4, 6])
def test_samples(family: int, variant: str) -> None:
    assert results(SAMPLES, family, variant) == [oracle(text, family) for text in SAMPLES]


@given(st.lists(texts() | st.text(max_size=60), max_size=12), st.sampled_from([4, 6]))
def test_every_variant_is_as_exact_as_ipaddress(column: list[str], family: int) -> None:
    want = [oracle(text, family) for text in column]
    for variant in isa.available():
        assert results(column, family, variant) == want


@given(
    st.lists(texts().filter(str.isascii), min_size=1, max_size=20),
    st.integers(0, 20),
    st.sampled_from([4, 6]),
)
def test_all_columns_are_read_alike(column: list[str], wider: int, family: int) -> None:
    want = [oracle(text.rstrip("\x00"), family) for text in column]  # numpy strips NULs
    octets = np.array([text.encode() for text in column])
    width = max(octets.dtype.itemsize, 1) + wider
    for array in (
        octets.astype(f"S{width}"),
        np.array(column).astype(f"U{width}"),
        np.array(column).astype(f">U{width}"),
        np.repeat(octets.astype(f"S{width}"), 3)[::3],
        np.repeat(np.array(column, f"U{width}"), 2)[::2],
        np.array([octets.astype(f"S{width}")] * 2).T[:, 1],
    ):
        assert results(array, family) == want
    assert results(tuple(text.rstrip("\x00").encode() for text in column), family) == want
    assert results((text.rstrip("\x00") for text in column), family) == want


@given(st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 3), max_size=20))
def test_ipv4_is_written_as_ipaddress_does(numbers: list[int]) -> None:
    written = address_texts(np.array(numbers, np.uint32)).tolist()
    assert written == [str(ipaddress.IPv4Address(number)).encode() for number in numbers]


@given(
    st.lists(
        st.lists(st.sampled_from([0, 0, 0, 1, 0x10, 0x100, 0xFFFF]), min_size=8, max_size=8), max_size=20
    )
)
def test_ipv6_is_written_as_ipaddress_does(rows: list[list[int]]) -> None:
    column = np.array(rows, ">u2").reshape(-1, 8).view(np.uint8)
    want = [str(ipaddress.IPv6Address(row.tobytes())).encode() for row in column]
    assert address_texts(column).tolist() == want
    assert results(want, 6) == [int.from_bytes(row.tobytes(), "big") for row in column]


def test_nulls_are_no_addresses() -> None:
    assert results(["1.2.3.4", None, float("nan")], 4) == [0x01020304, None, None]
    assert parse_addresses([], 6)[0].shape == (0, 16)


@pytest.mark.parametrize(
    ("wrong", "family", "error"),
    [
        ("1.2.3.4", 4, TypeError),
        ([1, 2], 4, TypeError),
        (["1.2.3.4", 7], 4, TypeError),
        (np.zeros((2, 2), "S4"), 4, ValueError),
        (np.zeros(2, np.uint32), 4, TypeError),
        (["1.2.3.4"], 5, ValueError),
    ],
)
def test_what_is_no_column_is_refused(wrong: Any, family: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        parse_addresses(wrong, family)


def test_a_table_looks_texts_up() -> None:
    table = kf.RouteTable({"0.0.0.0/0": 1, "10.0.0.0/8": 2})
    hops, ok = table.lookup_text(np.array([b"10.1.2.3", b"10.1.2.03", b"8.8.8.8"] * 3000))
    assert hops.tolist() == [2, kf.RouteTable.MISS, 1] * 3000
    assert ok.tolist() == [True, False, True] * 3000
    out = np.empty(2, np.uint32)
    six = kf.RouteTable({"2001:db8::/32": 7}, family=6)
    assert six.lookup_text(["2001:db8::1", "10.0.0.1"], out=out)[0] is out
    assert out.tolist() == [7, kf.RouteTable.MISS]


class Schema(ctypes.Structure):
    pass


class Array(ctypes.Structure):
    pass


RELEASE_SCHEMA = ctypes.CFUNCTYPE(None, ctypes.POINTER(Schema))
RELEASE_ARRAY = ctypes.CFUNCTYPE(None, ctypes.POINTER(Array))
Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_void_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.c_void_p),
    ("dictionary", ctypes.POINTER(Schema)),
    ("release", RELEASE_SCHEMA),
    ("private_data", ctypes.c_void_p),
]
Array._fields_ = [
    *((name, ctypes.c_int64) for name in ("length", "null_count", "offset", "n_buffers", "n_children")),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.c_void_p),
    ("dictionary", ctypes.POINTER(Array)),
    ("release", RELEASE_ARRAY),
    ("private_data", ctypes.c_void_p),
]
KEPT = RELEASE_SCHEMA(lambda _: None), RELEASE_ARRAY(lambda _: None)  # nothing to free: Python owns it all
MOVED = RELEASE_SCHEMA(), RELEASE_ARRAY()
CAPSULE = ctypes.pythonapi.PyCapsule_New
CAPSULE.restype = ctypes.py_object
CAPSULE.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class Strings:
    """A column by the Arrow PyCapsule interface, made by hand; `kind` is Arrow's format."""

    def __init__(
        self, column: list[bytes | None], kind: bytes, release: tuple[Any, Any] = KEPT, **fields: int
    ) -> None:
        content = b"".join(text or b"" for text in column)
        ends = np.cumsum([0] + [len(text or b"") for text in column])
        self._offsets = ends.astype(np.int32 if kind in (b"u", b"z") else np.int64)
        self._content = np.frombuffer(content + b"\xff", np.uint8).copy()
        self._valid = np.packbits([text is not None for text in column], bitorder="little")
        parts = [self._valid, self._offsets, self._content]
        self._buffers = (ctypes.c_void_p * 3)(*(part.ctypes.data for part in parts))
        self._schema = Schema(format=kind, release=release[0])
        size = {"length": len(column), "null_count": column.count(None), "n_buffers": 3} | fields
        self._array = Array(buffers=self._buffers, release=release[1], **size)

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        return (
            CAPSULE(ctypes.addressof(self._schema), b"arrow_schema", None),
            CAPSULE(ctypes.addressof(self._array), b"arrow_array", None),
        )


@pytest.mark.parametrize("kind", [b"u", b"U", b"z", b"Z"])
def test_arrow_strings(kind: bytes) -> None:
    column = [b"1.2.3.4", None, b"10.0.0.1", b"", b"::1", None, b"255.255.255.255", b"1.2.3.4x", b"9.9.9.9"]
    want = [oracle(text.decode(), 4) if text is not None else None for text in column]
    assert results(Strings(column, kind), 4) == want


def test_another_arrow_type_is_refused() -> None:
    with pytest.raises(TypeError, match="'i'"):
        TextColumn(Strings([b"1.2.3.4"], b"i"))
    with pytest.raises(TypeError, match="not a table: choose one of its columns"):
        TextColumn(Strings([b"1.2.3.4"], b"+s", n_buffers=1))


@pytest.mark.parametrize(
    ("column", "why"),
    [
        (Strings([b"1.2.3.4"], b"u", MOVED), "taken it over"),
        (Strings([b"1.2.3.4"], b"u", (KEPT[0], MOVED[1])), "taken it over"),
        (Strings([b"1.2.3.4"], b"u", length=-1), "length -1"),
        (Strings([b"1.2.3.4"], b"u", offset=-1), "from -1"),
        (Strings([b"1.2.3.4"], b"u", n_buffers=2), "at least 3 buffers: 2"),
    ],
)
def test_an_array_that_cannot_be_read_is_refused(column: Strings, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        TextColumn(column)


def test_a_column_of_nulls_has_no_memory() -> None:
    nothing = Strings([None] * 3, b"n", n_buffers=0)
    nothing._array.buffers = None
    assert results(nothing, 4) == [None] * 3


def test_a_stream_that_is_read_is_refused() -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    stream = pyarrow.chunked_array([["1.2.3.4"]]).__arrow_c_stream__()

    class Column:
        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            return stream

    assert len(pyarrow.chunked_array(Column())) == 1
    with pytest.raises(ValueError, match="somebody else has read it"):
        TextColumn(Column())


class Unknown:
    """As pandas' NA: whether it differs from anything is unknown."""

    def __ne__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")


def test_nulls_and_texts_of_other_types() -> None:
    texts = np.array(["1.2.3.4", Unknown(), float("nan"), None, np.float64("nan")], object)
    assert results(texts, 4) == [oracle("1.2.3.4", 4), None, None, None, None]
    assert results(list(np.array([b"1.2.3.4"])), 4) == [oracle("1.2.3.4", 4)]
    assert results(list(np.array(["1.2.3.4"])), 4) == [oracle("1.2.3.4", 4)]
    with pytest.raises(TypeError, match="at 1"):
        TextColumn(["1.2.3.4", np.array([1.0, 2.0])])


def test_a_field_that_is_not_aligned() -> None:
    rows = np.zeros(9, [("flag", "u1"), ("address", "U15")])
    rows["address"] = [f"10.0.0.{i}" for i in range(9)]
    assert results(rows["address"], 4) == [oracle(f"10.0.0.{i}", 4) for i in range(9)]


@pytest.mark.parametrize("library", ["pyarrow", "polars", "pandas"])
def test_columns_of_others(library: str) -> None:
    module = pytest.importorskip(library, reason=f"{library} is not installed")
    texts = [
        "1.2.3.4",
        None,
        "10.244.1.7 ",
        "10.244.1.7",
        "a text that is much longer than any address is: 1.2.3.4",
    ] * 9
    want = [oracle(text, 4) if text else None for text in texts]
    if library == "pyarrow":
        columns = [
            module.array(texts),
            module.array(texts, module.large_string()),
            module.chunked_array([texts[:5], texts[5:]]),
        ]
        columns += [module.array(texts).dictionary_encode(), module.array(["x", *texts])[1:]]
    elif library == "polars":
        columns = [module.Series(texts), module.Series(texts).cast(module.Categorical)]
    else:
        columns = [module.Series(texts), module.Series(texts, dtype=object)]
    for column in columns:
        assert results(column, 4) == want
    del columns
    gc.collect()


@given(
    st.lists(
        st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32), st.none() | st.integers(0, 2**32 - 2)),
        max_size=8,
    )
)
def test_prefix_lists(rows: list[tuple[int, int, int | None]]) -> None:
    lines, want = ["# a list", ""], {}
    for number, (address, length, hop) in enumerate(rows):
        network = ipaddress.ip_network((address, length), strict=False)
        lines.append(f"\t{network}" + ("" if hop is None else f" , {hop}") + "  # text\r")
        want[str(network)] = number if hop is None else hop
    text = "\n".join(lines)
    octets = np.frombuffer(text.encode(), np.uint8)
    lists = text.splitlines(), iter(text.splitlines(keepends=True)), text.encode().splitlines()
    for source in (text, text.encode(), octets, *lists):
        assert dict(kf.RouteTable.from_text(source).items()) == want


def test_prefix_lists_take_what_ipaddress_takes() -> None:
    table = kf.RouteTable.from_text("10.0.0.0/255.0.0.0 7\n192.0.2.1\n10.1.0.0/016 10\n")
    assert table.items() == [("10.0.0.0/8", 7), ("10.1.0.0/16", 10), ("192.0.2.1/32", 1)]
    both = "10.0.0.0/8\n2001:db8::/32 5\n"
    assert kf.RouteTable.from_text(both, skip_other_family=True).items() == [("10.0.0.0/8", 0)]
    assert kf.RouteTable.from_text(both, skip_other_family=True, family=6).items() == [("2001:db8::/32", 5)]


@pytest.mark.parametrize(
    "line",
    ["10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8 1 2", "10.0.0.0/8 x", "10.0.0.0/8 -1", "::/0", "1.0.0.0/8 1_0"],
)
def test_a_bad_line_is_named(line: str) -> None:
    with pytest.raises(ValueError, match=r"^line 3: "):
        kf.RouteTable.from_text(f"10.0.0.0/8\n\n{line}\n")


def test_lines_that_are_no_text_are_refused() -> None:
    with pytest.raises(TypeError, match="line 2: a line is str or bytes, not int"):
        kf.RouteTable.from_text(["10.0.0.0/8", 5])  # type: ignore[list-item]
    with pytest.raises(kf.AddressError, match=r"^line 1: "):
        kf.RouteTable.from_text("10.0.0.0/8\ud800")
