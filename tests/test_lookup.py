"""The command `lookup`: against `ipaddress` and a search through the list, from every kind of source.

One file, for every source goes through the same search.
"""

import csv
import gzip
import io
import ipaddress
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import kubenet_fastpath as kf
from kubenet_fastpath import address_source, cli, lines
from kubenet_fastpath.lookup import Format, Lookup
from kubenet_fastpath.prefix_list import read_prefixes

TABLE = """\
# a cluster
0.0.0.0/0 default
10.244.0.0/16 pods
10.244.1.0/24,"node 1, rack 2"   # its own
10.244.1.7 a host
fd00::/8
FD00:244::/64\tv6 pods

"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.txt"
    path.write_text(TABLE)
    return path


class Stdin:
    """What is piped in."""

    def __init__(self, data, tty=False):
        self.buffer = io.BytesIO(data)
        self._tty = tty

    def isatty(self):
        return self._tty


@pytest.fixture
def run(capfdbinary, monkeypatch):
    """Run the command; its code, output and errors."""

    def run(*args, stdin=b"", tty=False):
        monkeypatch.setattr(sys, "stdin", Stdin(stdin, tty))
        code = cli.main(["lookup", *map(str, args)])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return run


# the kernels -------------------------------------------------------------------------------------------------------


def column(texts):
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    return (
        np.frombuffer(b"".join(texts), np.uint8),
        ends - np.array([len(t) for t in texts], np.int64),
        ends,
    )


def judged(text):
    """Family, address and length of a text, as `ipaddress` has it; family 0 for neither."""
    address, slash, length = text.partition("/")
    try:
        value = ipaddress.ip_address(address)
    except ValueError:
        return 0, 0, None
    if "%" in address or (slash and not (length.isascii() and length.isdecimal())):
        return 0, 0, None
    if slash and int(length) > value.max_prefixlen:
        return 0, 0, None
    return value.version, int(value), int(length) if slash else None


FORMS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.ip_addresses(v=6).map(lambda a: a.exploded),
    st.ip_addresses(v=6).map(lambda a: a.compressed.upper()),
    st.ip_addresses(v=4).map(lambda a: f"::ffff:{a}"),
    st.ip_addresses(v=4).map(lambda a: f"1:2:3:4:5:6:{a}"),
    st.sampled_from(["::", "::1", "1::", "0.0.0.0", "255.255.255.255", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8"]),
)
LENGTHS = st.one_of(
    st.just(""), st.integers(-1, 130).map(lambda n: f"/{n}"), st.sampled_from(["/", "/08", "/+8"])
)


@st.composite
def nearly(draw):
    """A text that is an address or prefix, or is one but for a character."""
    text = draw(FORMS) + draw(LENGTHS)
    if draw(st.booleans()):
        at = draw(st.integers(0, len(text)))
        kept = draw(st.integers(0, 1))
        text = text[:at] + draw(st.sampled_from(["", *"0.:/ 9aFg%-\0é1256"])) + text[at + kept :]
    return text


@given(st.lists(nearly(), max_size=8))
@example(["1.2.3.04", "1.2.3.256", "1.2.3", "1.2.3.4.", "00.0.0.0", "1.2.3.4/33", "::/129", "1.2.3.4 "])
@example(
    [":::", "1:2:3:4:5:6:7:8:9", "1::2::3", "12345::", "::1.2.3", "::01.2.3.4", "fe80::1%eth0", "::\x001"]
)
@example(
    [
        "1111:2222:3333:4444:5555:6666:123.123.123.123",
        "1:2:3:4:5:6:7::8",
        "::1:2:3:4:5:6:7:8",
        "1111:2222:3333:4444:5555:6666:123.123.123.1234",
    ]
)
def test_addresses_as_ipaddress_has_them(texts):
    family, halves, length = lines.addresses(*column([text.encode() for text in texts]))
    for i, text in enumerate(texts):
        version, value, bits = judged(text)
        assert family[i] == version, text
        assert int(halves[i, 0]) << 64 | int(halves[i, 1]) == (value << 96 if version == 4 else value)
        if version:
            assert int(length[i]) == (lines.NO_LENGTH if bits is None else bits)


def first_words(data):
    for number, line in enumerate(data.split(b"\n")):
        words = line.partition(b"#")[0].strip(b" \t\r\v\f")
        if words:
            at = min((i for i in range(len(words)) if words[i] in b" \t\r\v\f,"), default=len(words))
            rest = words[at:].lstrip(b" \t\r\v\f")
            rest = rest[1:].lstrip(b" \t\r\v\f") if rest[:1] == b"," else rest
            yield number, words[:at], rest


@given(st.lists(st.sampled_from([b"a", b"1.2", b" ", b"\t", b",", b"\n", b"\r\n", b"#", b'"']), max_size=12))
def test_the_first_word_of_each_line(parts):
    data = b"".join(parts)
    start, end, rest, stop, line = lines.fields(np.frombuffer(data, np.uint8))
    found = zip(start.tolist(), end.tolist(), rest.tolist(), stop.tolist(), line.tolist(), strict=True)
    assert [(n, data[a:b], data[c:d]) for a, b, c, d, n in found] == list(first_words(data))


CELL = st.text("ab1.,\t ;", max_size=4).filter(lambda cell: cell == cell.strip())


@given(
    st.lists(st.lists(CELL, min_size=1, max_size=4).filter(any), max_size=4),
    st.integers(0, 4),
    st.sampled_from(",\t;"),
)
def test_a_field_of_csv(rows, number, delimiter):
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    data = out.getvalue().encode()
    start, end, *_ = lines.fields(np.frombuffer(data, np.uint8), number, ord(delimiter))
    got = [data[a:b].decode() for a, b in zip(start.tolist(), end.tolist(), strict=True)]
    assert got == [row[number] if number < len(row) else "" for row in rows]
    whole = data[:-2]  # nothing is looked for behind the end
    start, end, _, stop, _ = lines.fields(np.frombuffer(whole, np.uint8), number, ord(delimiter))
    assert ((start <= end) & (end <= stop) & (stop <= len(whole))).all()


def test_calls_that_are_refused():
    data, start, end = column([b"1.2.3.4", b"::"])
    row, tails, offset = np.zeros(2, np.uint32), np.frombuffer(b"\n", np.uint8), np.array([0, 1])
    assert lines.join(data, start, end, row, tails, offset, b"> ", 8) == b"> 1.2.3.4 \n> ::      \n"
    for wrong in (start + 9, start - 1):
        with pytest.raises(ValueError, match="outside"):
            lines.addresses(data, wrong, end)
        with pytest.raises(ValueError, match="agree"):
            lines.join(data, wrong, end, row, tails, offset)
    with pytest.raises(ValueError, match="end must"):
        lines.addresses(data, start, end[:1])
    for other in (row + 1, row[:1]):
        with pytest.raises(ValueError, match="agree"):
            lines.join(data, start, end, other, tails, offset)
    for other in (offset + 1, offset - 1, offset[::-1].copy()):
        with pytest.raises(ValueError, match="agree"):
            lines.join(data, start, end, row, tails, other)


# the whole ---------------------------------------------------------------------------------------------------------


def network_near(version):
    """Networks that lie in one another, and addresses at their edges."""
    bits = 32 if version == 4 else 128
    base = 0x0AF40100 if version == 4 else 0xFD000244 << 96
    kind = ipaddress.ip_network
    value = st.builds(
        lambda i, d: (base ^ (1 << i if i < bits else 0)) + d, st.integers(0, bits), st.integers(0, 2)
    )
    make = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    address = value.map(lambda v: make(v % (1 << bits)))
    return st.builds(lambda a, n: kind((a, n), strict=False), address, st.integers(0, bits)), address


NETWORKS = st.one_of(network_near(4)[0], network_near(6)[0])
ADDRESSES = st.one_of(network_near(4)[1], network_near(6)[1])


def model(prefixes, text):
    """Prefix and label by looking at all of them."""
    version, value, bits = judged(text)
    if not version or bits is not None:
        return "!", "not an address"
    address = ipaddress.ip_address(value) if version == 4 else ipaddress.IPv6Address(value)
    inside = [(network.prefixlen, i) for i, (network, _) in enumerate(prefixes) if address in network]
    if not inside:
        return "-", "-"
    network, label = prefixes[max(inside)[1]]
    return str(network), label or "-"


@given(
    st.lists(st.tuples(NETWORKS, st.sampled_from(["", "a b", "17"])), max_size=12),
    st.lists(st.one_of(ADDRESSES.map(str), nearly()), max_size=12),
    st.integers(1, 64),
)
def test_as_a_search_through_the_list(tmp_path_factory, prefixes, texts, block):
    texts = [text for text in texts if text.isprintable() and text and not set(" ,#") & set(text)]
    folder = tmp_path_factory.mktemp("lookup")
    (folder / "table").write_text("".join(f"{network} {label}\n" for network, label in prefixes))
    (folder / "addresses").write_text("\n".join(texts))
    lookup = Lookup(read_prefixes(folder / "table"), Format.TABS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(address_source, "BLOCK", block)
        out = b"".join(lookup.run(address_source.read_addresses(folder / "addresses"))).decode()
    want = [(text, *model(prefixes, text)) for text in texts]
    assert out == "".join("\t".join(row) + "\n" for row in want)
    told = [prefix for _, prefix, _ in want]
    assert (lookup.bad, lookup.missed) == (told.count("!"), told.count("-"))
    assert lookup.found + lookup.missed + lookup.bad == len(texts)


ANSWERS = """\
10.244.1.7\t10.244.1.7\ta host
10.244.1.8\t10.244.1.0/24\tnode 1, rack 2
fd00:244::1\tFD00:244::/64\tv6 pods
fd01::\tfd00::/8\t-
2001:db8::1\t-\t-
"""
ASKED = [line.split("\t")[0] for line in ANSWERS.splitlines()]


def test_arguments(run, table):
    assert run(table, *ASKED) == (0, ANSWERS, "")


@pytest.mark.parametrize("args", [[], ["-"]])
def test_standard_input(run, table, args):
    assert run(table, *args, stdin="\r\n".join(ASKED).encode()) == (0, ANSWERS, "")


def test_a_table_and_addresses_that_are_gzipped(run, table, tmp_path):
    for path, text in ((tmp_path / "table.gz", TABLE), (tmp_path / "asked.gz", "\n".join(ASKED))):
        path.write_bytes(gzip.compress(text.encode()))
    assert run(tmp_path / "table.gz", tmp_path / "asked.gz") == (0, ANSWERS, "")


def test_sources_in_order(run, table, tmp_path):
    (tmp_path / "asked").write_text(f"{ASKED[1]}  and more\n# {ASKED[0]}\n\n{ASKED[2]}")
    got = run(table, ASKED[0], tmp_path / "asked", "-", ASKED[4], stdin=ASKED[3].encode())
    assert got == (0, ANSWERS, "")


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("time,src,dst\n" + "".join(f"1,::,{a}\n" for a in ASKED), ["--column", "dst"]),
        ("time,src,dst\n" + "".join(f"1,::,{a}\n" for a in ASKED), ["--column", "3"]),
        ("\n".join(f"1;{a}" for a in ASKED), ["--column", "2"]),
        ("ip\t2\n" + "".join(f'"{a}"\tx\n' for a in ASKED), ["--column", "ip"]),
        ("\ufeffip,x\n" + "".join(f"{a},\n" for a in ASKED), ["--column", "ip"]),
        ("\ufeff" + "\n".join(ASKED), []),
    ],
)
def test_csv_columns(run, table, tmp_path, text, args):
    (tmp_path / "flows.csv").write_text(text, encoding="utf-8")
    assert run(table, tmp_path / "flows.csv", *args) == (0, ANSWERS, "")


@pytest.mark.parametrize("dictionary", [False, True])
def test_parquet(run, table, tmp_path, dictionary):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "flows.parquet"
    texts = pa.array([*ASKED, None])
    texts = texts.dictionary_encode() if dictionary else texts
    pq.write_table(pa.table({"n": list(range(6)), "dst": texts}), path)
    code, out, _ = run(table, path, "--column", "dst")
    assert (code, out) == (1, ANSWERS + "\t!\tnot an address\n")
    for args, words in (([], "n, dst"), (["--column", "1"], "int64"), (["--column", "x"], "'n', 'dst'")):
        code, out, err = run(table, path, *args)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert words in err


def test_parquet_without_pyarrow(run, table, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "flows").write_bytes(b"PAR1")
    code, _, err = run(table, tmp_path / "flows")
    assert code == 2
    assert "pip install 'kubenet-fastpath[parquet]'" in err


@pytest.mark.parametrize("family", [4, 6])
def test_a_saved_table(run, tmp_path, family):
    prefix, other = ("10.0.0.0/8", "11.0.0.0") if family == 4 else ("fd00::/8", "::")
    kf.RouteTable({prefix: 40000}, family=family).save(tmp_path / "table")
    inside = prefix.partition("/")[0]
    assert run(tmp_path / "table", inside, other) == (0, f"{inside}\t{prefix}\t40000\n{other}\t-\t-\n", "")
    image = (tmp_path / "table").read_bytes()
    (tmp_path / "table").write_bytes(image[:-9])
    assert run(tmp_path / "table", inside)[0] == 2


def test_what_is_no_address_is_marked(run, table):
    asked = b'10.244.1.300\n10.0.0.0/8\n"q"\n\xff\x1b[31m\n10.244.9.9\n'
    code, out, err = run(table, "-", stdin=asked)
    assert code == 1
    assert [line.split("\t")[:2] for line in out.splitlines()] == [
        ["10.244.1.300", "!"],
        ["10.0.0.0/8", "!"],
        ['"q"', "!"],
        ["\\xff\\x1b[31m", "!"],
        ["10.244.9.9", "10.244.0.0/16"],
    ]
    assert err == "kubenet-fastpath: warning: 4 of 5 are no addresses\n"
    told = [json.loads(line) for line in run(table, "--json", stdin=asked)[1].splitlines()]
    assert [row["address"] for row in told] == [
        "10.244.1.300",
        "10.0.0.0/8",
        '"q"',
        "\\xff\x1b[31m",
        "10.244.9.9",
    ]
    assert [row.get("error") for row in told] == ["not an address"] * 4 + [None]
    rows = list(csv.reader(io.StringIO(run(table, "--csv", stdin=asked)[1])))
    assert [row[0] for row in rows[1:]] == [row["address"] for row in told]


def test_json_and_csv(run, table):
    told = [json.loads(line) for line in run(table, *ASKED, "--json")[1].splitlines()]
    plain = [line.split("\t") for line in ANSWERS.splitlines()]
    assert [[row["address"], row["prefix"] or "-", row["label"] or "-"] for row in told] == plain
    assert told[4] == {"address": "2001:db8::1", "prefix": None, "label": None}
    rows = list(csv.reader(io.StringIO(run(table, *ASKED, "--csv")[1])))
    assert rows == [["address", "prefix", "label"], *plain]


def test_aligned(table):
    lookup = Lookup(read_prefixes(table), Format.ALIGNED)
    out = b"".join(lookup.run(address_source.open_addresses(ASKED, io.BytesIO()))).decode()
    assert [line.split(maxsplit=2) for line in out.splitlines()] == [
        line.split("\t") for line in ANSWERS.splitlines()
    ]
    assert out.startswith("10.244.1.7       10.244.1.7     a host\n")  # 15 columns, and two between


def test_netmasks_and_the_last_of_equals(run, tmp_path):
    (tmp_path / "t").write_text("prefix,label\n10.0.0.0/255.0.0.0 first\n10.0.0.0/8 last\n")
    assert run(tmp_path / "t", "10.1.1.1")[1] == "10.1.1.1\t10.0.0.0/8\tlast\n"


def test_host_prefixes_and_quoted_labels(run, tmp_path):
    (tmp_path / "t").write_text('fd00::1,"a ""b"", c"\n10.0.0.1 "\n')
    got = run(tmp_path / "t", "fd00::1", "fd00::2", "10.0.0.1", "10.0.0.0")
    assert got[1] == 'fd00::1\tfd00::1\ta "b", c\nfd00::2\t-\t-\n10.0.0.1\t10.0.0.1\t"\n10.0.0.0\t-\t-\n'


def test_host_bits(run, tmp_path):
    (tmp_path / "t").write_text("10.0.0.0/8\n\nfd00::1/64\n")
    code, _, err = run(tmp_path / "t", "::")
    assert code == 2
    assert "line 3" in err
    assert "fd00::1/64" in err
    assert run(tmp_path / "t", "fd00::2", "--mask-host-bits")[1] == "fd00::2\tfd00::1/64\t-\n"


@pytest.mark.parametrize(
    ("text", "args", "words"),
    [
        (TABLE, ["10.0.0.300"], ["'10.0.0.300'", "neither an address nor a file"]),
        (TABLE, ["."], ["Is a directory"]),
        (TABLE, ["--column", "dst"], ["'dst'", "'10.1.1.1'"]),
        (TABLE, ["--column", "3"], ["1 columns"]),
        ("a\nb\n", ["::"], ["line 2", "not a prefix", "'b'"]),
        ("10.0.0.0/33\n", ["::"], ["line 1", "10.0.0.0/33"]),
        ("::/8\n10.0.0.0/8x\n", ["::"], ["line 2"]),
    ],
)
def test_errors_are_one_sentence(run, tmp_path, text, args, words):
    (tmp_path / "t").write_text(text)
    code, out, err = run(tmp_path / "t", *args, stdin=b"10.1.1.1\n")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("kubenet-fastpath: error: ")
    assert all(word in err for word in words)


def test_no_addresses_at_a_terminal(run, table):
    code, _, err = run(table, tty=True)
    assert code == 2
    assert "no addresses" in err


def test_compressed_data_that_break_off(run, table, tmp_path):
    (tmp_path / "asked.gz").write_bytes(gzip.compress(b"1.2.3.4\n" * 9999)[:-20])
    code, _, err = run(table, tmp_path / "asked.gz")
    assert code == 2
    assert "asked.gz" in err


def test_a_reader_who_leaves_early_is_no_error(table):
    path = str(Path(kf.__file__).parent.parent)
    command = (
        f"yes 10.244.1.7 | head -n 999999 | {sys.executable} -m kubenet_fastpath lookup {table} | head -n 1"
    )
    done = subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[2]}}"],
        cwd=path,  # where python -m looks first
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, ANSWERS.splitlines(keepends=True)[0], "")


def test_answers_come_as_questions_do(table):
    """A line that is piped in is answered before the pipe is closed."""
    path = str(Path(kf.__file__).parent.parent)
    with subprocess.Popen(
        [sys.executable, "-m", "kubenet_fastpath", "lookup", str(table)],
        cwd=path,  # where python -m looks first
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    ) as process:
        for line in ANSWERS.splitlines():
            process.stdin.write(line.split("\t")[0].encode() + b"\n")
            assert process.stdout.readline().decode() == line + "\n"
        process.stdin.close()
        assert process.wait() == 0


def test_pipes_in_place_of_files(run, table, tmp_path):
    """As a shell's `<(...)` gives them: they can be read but once."""

    def pipe(name, data):
        path = tmp_path / name
        os.mkfifo(path)
        writer = threading.Thread(target=lambda: path.write_bytes(data))
        writer.start()
        return path, writer

    prefixes, first = pipe("prefixes", table.read_bytes())
    addresses, second = pipe("addresses", b"10.244.1.7\n10.244.9.9\n")
    assert run(prefixes, addresses)[1] == "10.244.1.7\t10.244.1.7\ta host\n10.244.9.9\t10.244.0.0/16\tpods\n"
    first.join()
    second.join()


def test_a_first_line_that_is_no_header(run, table, tmp_path):
    (tmp_path / "wide.csv").write_text("a" * 200_000)
    code, out, err = run(table, tmp_path / "wide.csv", "--column", "dst")
    assert (code, out) == (2, "")
    assert "its first line is no header of CSV" in err


def test_csv_without_its_column_is_explained(run, table, tmp_path):
    (tmp_path / "flows.csv").write_text("time,dst\n1,10.244.1.7\n")
    code, _, err = run(table, tmp_path / "flows.csv")
    assert code == 1
    assert err.endswith("2 of 2 are no addresses (--column says which column of CSV has them)\n")


def test_a_damaged_table_is_named(run, tmp_path):
    kf.RouteTable({"10.0.0.0/8": 1}).save(tmp_path / "routes")
    (tmp_path / "routes").write_bytes((tmp_path / "routes").read_bytes()[:1000])
    code, out, err = run(tmp_path / "routes", "10.0.0.1")
    assert (code, out) == (2, "")
    assert f"{tmp_path / 'routes'}: a saved table that is cut" in err


@pytest.mark.parametrize("stream", ["stdin", "stdout"])
def test_a_closed_stream_is_one_sentence(table, capsys, monkeypatch, stream):
    monkeypatch.setattr(sys, stream, None)
    assert cli.main(["lookup", str(table), "10.244.1.7"]) == 2
    assert "is closed" in capsys.readouterr().err
