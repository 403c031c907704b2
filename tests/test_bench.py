"""The benchmarks run at tiny sizes, check their results, and write what they should; no test asks how long it took."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

CLONE = Path(__file__).resolve().parents[1]
sys.path.append(str(CLONE))  # behind what is installed

import kubenet_fastpath as kf  # noqa: E402
from bench import __main__ as command  # noqa: E402
from bench import array_tables, dpdk, frames, node_peers, numpy_node, report  # noqa: E402
from bench.absent import Absent  # noqa: E402
from bench.catalogue import PARTS  # noqa: E402
from bench.results import Results  # noqa: E402
from bench.traces import Addressing, Flows, NewFlows, Trace  # noqa: E402
from bench.traces import Path as Way  # noqa: E402
from bench.turns import Figure, by_turns  # noqa: E402


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    def library():
        raise Absent("DPDK: not in tests")

    monkeypatch.setattr(dpdk, "library", library)
    return tmp_path / "results.json"


@pytest.mark.parametrize(
    "words",
    [
        ["modes:1000"],
        ["node:1", "node:1000"],
        ["growth:routes,macs,flows"],
        ["growth:services,cidrs,hostports"],
        ["growth:sizes,batches,shares,lines"],
    ],
    ids=" ".join,
)
def test_parts_run(words, results, capsys):
    if words[0].startswith("node:"):
        pytest.importorskip("numba", reason="the node's peer is written with numba")
    assert command.main(["--tiny", "-o", str(results), *words]) == 0
    shown = capsys.readouterr().out
    kept = json.loads(results.read_text())
    assert kept["machine"]["numpy"] == np.__version__
    for word in words:
        name, _, slices = word.partition(":")
        for slice_ in slices.split(","):
            entry = kept["parts"][name]["slices"][slice_]
            assert entry["data"], slice_
            assert entry["command"].endswith(" ".join(words))
        for table in command.tables_of(PARTS[name], Results(results)):
            assert table.text() in shown
            assert {len(row) for row in table.rows} == {len(table.head)}
        assert ("DPDK: not in tests" in shown) == (name == "node")


def test_documents_and_plots_come_of_results(results, tmp_path, monkeypatch, capsys):
    pytest.importorskip("numba", reason="the node's peer is written with numba")
    pytest.importorskip("matplotlib")
    assert (
        command.main(["--tiny", "-o", str(results), "modes:1000", "node:1000", "growth:flows,batches"]) == 0
    )
    capsys.readouterr()
    document = tmp_path / "README.md"
    document.write_text("\n".join(report.mark("modes.classes")))
    monkeypatch.setattr(command, "DOCUMENTS", (document,))
    monkeypatch.setattr(command, "PLOTS", tmp_path / "plots")
    assert command.main(["--saved", "--readme", "-o", str(results)]) == 0
    said = capsys.readouterr().out
    assert "README.md: modes.classes" in said
    assert report.mark("node.costs")[0] in said  # no document has it
    assert "| same node, reply |" in document.read_text()
    drawn = {path.name: path.read_text() for path in (tmp_path / "plots").iterdir()}
    assert set(drawn) == {"modes.svg", "modes-sizes.svg", "node.svg", "growth.svg"}
    assert all(text.endswith("</svg>\n") and "#808080" in text for text in drawn.values())


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces take root")
def test_the_kernel_beside_it(results, capsys):
    assert command.main(["--tiny", "-o", str(results), "linux:run1"]) == 0
    assert "kubenet" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "said"), [
    (["nothing"], "there is no part 'nothing'"),
    (["node:7"], "node has no slice '7'"),
    (["--quick", "--readme", "node"], "none to quote"),
])  # fmt: skip
def test_errors_are_a_sentence(words, said, results, capsys):
    assert command.main(["-o", str(results), *words]) == 2
    assert said in capsys.readouterr().err
    assert not results.exists()


def test_a_file_of_something_else(results, capsys):
    results.write_text("[]")
    assert command.main(["-o", str(results), "--saved"]) == 2
    assert "no benchmark results" in capsys.readouterr().err


def test_a_slice_replaces_itself_alone(results):
    kept = Results(results)
    kept.add("node", "1", {"a": 1}, [], 0.0, "first")
    kept.add("node", "1000", {"b": 2}, ["somebody: reason"], 0.0, "second")
    Results(results).add("node", "1", {"a": 3}, [], 0.0, "third")
    again = Results(results)
    assert again.data("node") == {"1": {"a": 3}, "1000": {"b": 2}}
    assert again.absent("node") == ["somebody: reason"]


def test_documents_are_filled_between_markers(tmp_path):
    document = tmp_path / "README.md"
    begin, end = report.mark("node.costs")
    document.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    table = report.Table("node.costs", "title", ("a|b", "c"), [("1", "2")], ("Note.",))
    assert report.fill(document, [("node.costs", table.markdown()), ("other", "?")]) == ["node.costs"]
    filled = f"before\n{begin}\n| a\\|b | c |\n| --- | --- |\n| 1 | 2 |\n\nNote.\n{end}\nafter\n"
    assert document.read_text() == filled
    document.write_text(f"{begin} and no end")
    with pytest.raises(ValueError, match="has no"):
        report.fill(document, [("node.costs", "new")])
    assert document.read_text() == f"{begin} and no end"


def test_the_readmes_have_markers_of_tables_that_exist():
    kept = Results(command.RESULTS)
    made = {part.name: {table.name for table in command.tables_of(part, kept)} for part in PARTS.values()}
    for document in command.DOCUMENTS:
        for line in document.read_text().splitlines():
            if line.startswith("<!-- bench ") and line != "<!-- bench machine -->":
                name = line.split()[2]
                tables = made[name.split(".")[0]]
                assert name in tables or not tables, name  # a part that nobody has measured yet has none
                assert f"<!-- /bench {name} -->" in document.read_text()


@pytest.mark.parametrize("size", [60, 61, 1514, 9000])
def test_frames_are_valid(size):
    random = np.random.default_rng(size)
    src, dst = (random.integers(0, 1 << 32, 100) for _ in range(2))
    sport, dport = (random.integers(0, 1 << 16, 100) for _ in range(2))
    sent = frames.udp_frames(0x0A5800000001, 0x0A5800000002, src, dst, sport, dport, size)
    for made, turned in ((sent, False), (frames.answers(sent), True)):
        headers = kf.PacketBatch.from_array(made).headers()
        assert (headers["ip_checksum_ok"] == 1).all()
        assert (headers["l4_checksum_ok"] == 1).all()
        assert (headers["ttl"] == 64).all()
        assert (headers["udp_len"] == size - 34).all()
        for name, want in (
            (("src", src), ("sport", sport)) if not turned else (("dst", src), ("dport", sport))
        ):
            np.testing.assert_array_equal(headers[name], want)


def test_keys_are_found_and_others_not():
    random = np.random.default_rng(1)
    low, high = (random.integers(0, 50, 2000).astype(np.uint64) for _ in range(2))
    keys = np.unique(np.stack([low, high], axis=1), axis=0)
    table = array_tables.Probed.make(keys[:, 0], keys[:, 1], np.arange(len(keys)))
    np.testing.assert_array_equal(table.value[table.find(keys[:, 0], keys[:, 1])], np.arange(len(keys)))
    assert (table.value[table.find(keys[:, 0] + 50, keys[:, 1])] == array_tables.NONE).all()


@pytest.mark.parametrize(
    "path", sorted(node_peers.MODELLED, key=lambda path: path.name), ids=lambda path: path.name
)
@pytest.mark.parametrize("reply", [False, True], ids=["out", "reply"])
def test_a_pipeline_of_arrays_gives_our_frames(path, reply):
    trace = Flows.make(path, 100).trace(64, reply=reply, packets=512)
    pipeline = node_peers.Pipeline(numpy_node.forward, trace, array_tables.Tables.of(trace.node))
    pipeline.check()
    assert pipeline.tables.rows[:, array_tables.PACKETS].sum() == 512


def test_a_peer_that_is_wrong_is_found_out():
    trace = Flows.make(Way.INTERNET, 10).trace(64, packets=128)

    def careless(tables, frames, port, now):
        out = numpy_node.forward(tables, frames, port, now)
        frames[-1, frames.shape[1] - 1] ^= 1
        return out

    with pytest.raises(AssertionError):
        node_peers.Pipeline(careless, trace, array_tables.Tables.of(trace.node)).check()


def test_a_trace_of_dropped_packets_is_found_out():
    trace = Flows.make(Way.INTERNET, 10).trace(64, packets=128)
    trace.original[22] = 1  # a TTL that runs out, and the checksum that goes with it
    trace.original[24:26] = np.array([trace.original[24] + 63, trace.original[25]], np.uint8)
    with pytest.raises(AssertionError):
        trace.check()


@pytest.mark.parametrize("addressing", list(Addressing))
def test_first_packets_are_new_each_round(addressing):
    flows = Flows.make(Way.INTERNET, 50, addressing)
    new = NewFlows(flows, 64, 256, share=0.5)
    new.check()
    for _ in range(2):
        new.restore()
        assert len(new.node.connections) == 50
        new.run()
        assert len(new.node.connections) == 50 + new.new
    assert 0 < new.new < 256


def test_a_trace_is_put_back(monkeypatch):
    trace = Trace.make(Way.SERVICE, 10, 32)
    trace.restore()
    before = trace.bytes.copy()
    trace.run()
    assert (trace.bytes != before).any()
    trace.restore()
    np.testing.assert_array_equal(trace.bytes, before)


class Quick:
    """A round of a million packets that no clock notices."""

    packets = 1_000_000

    def restore(self) -> None: ...

    def run(self) -> None: ...


def test_a_clock_that_stands_still_gives_no_figure_of_nothing():
    """The kept figures go into ratios and geometric means."""
    took = by_turns({"quick": Quick()}, 3, lambda said: None, clock=lambda: 7)
    assert took["quick"] == [1e-6] * 3
    assert Figure.of(took["quick"]).row() == [1e-6] * 3
    assert Figure.of([1 / 3, 1 / 3]).ns == 0.33333
