"""What a real kernel did with exact frames, our node does too: frames, connections, the bridge's table.

    pytest tests/test_golden.py --golden DIR      # any folder of that format

Cases that fail today are listed in golden/expected_failures.txt with the reason; one that is listed and passes
fails the suite.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import golden_compare
import pytest
from golden_node import GoldenNode, NotYet

HERE = Path(__file__).parent / "golden"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case_file" not in metafunc.fixturenames:
        return
    folder = Path(metafunc.config.getoption("--golden") or HERE)
    files = sorted((folder / "cases" if (folder / "cases").is_dir() else folder).glob("*.json"))
    expected = expected_failures()
    marked = [
        pytest.param(
            file,
            id=file.stem,
            marks=[pytest.mark.xfail(reason=expected[file.stem], strict=True)]
            if file.stem in expected
            else [],
        )
        for file in files
    ]
    metafunc.parametrize("case_file", marked)


def expected_failures() -> dict[str, str]:
    """Case name -> reason."""
    lines = (HERE / "expected_failures.txt").read_text().splitlines()
    pairs = (line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    return {name: reason for name, reason in pairs}


def run(case: golden_compare.Case) -> list[str]:
    """Differences between the case and our node."""
    node = GoldenNode(case["node"])
    outputs = golden_compare.replay(case, node.inject, node.advance)
    return golden_compare.judge(case, outputs, node.conntrack(), node.fdb())


def test_case(case_file: Path, record_property: pytest.RecordProperty) -> None:
    case = json.loads(case_file.read_text())
    mode = case["node"]["mode"]
    record_property("golden", f"{case['category']}.{mode}")
    try:
        reasons = run(case)
    except (NotYet, NotImplementedError) as missing:
        pytest.fail(f"not there yet: {missing}")
    assert not reasons, "\n".join(reasons[:6])


def broken(outputs: list[golden_compare.Frames], alternative: dict) -> list[list[golden_compare.Frames]]:
    """The recorded frames with one frame lost, doubled, moved or bent in each."""
    made = []
    for i, step in enumerate(outputs):
        for j, (port, frame) in enumerate(step):
            mask = bytes.fromhex(alternative["out"][i][j].get("mask", "ff" * len(frame)))
            bent = bytearray(frame)
            bent[mask.index(0xFF)] ^= 1
            for change in (
                step[:j] + step[j + 1 :],
                [*step, step[j]],
                [*step[:j], ("elsewhere", frame), *step[j + 1 :]],
                [*step[:j], (port, bytes(bent)), *step[j + 1 :]],
            ):
                made.append([*outputs[:i], change, *outputs[i + 1 :]])
    return made


@pytest.mark.parametrize(
    "name", ["nat.kubenet.clash_udp", "bridge.station_move", "arp.resolve_queue", "tcp.window_scale"]
)
def test_the_comparison_refuses_broken_answers(name: str) -> None:
    case = json.loads((HERE / "cases" / f"{name}.json").read_text())
    alternative = case["alternatives"][0]
    outputs = [[(w["port"], bytes.fromhex(w["hex"])) for w in step] for step in alternative["out"]]
    assert golden_compare.judge(case, outputs) == []
    mutants = broken(outputs, alternative)
    assert len(mutants) > 10
    for mutant in mutants:
        assert golden_compare.judge(case, mutant)


def test_the_comparison_refuses_broken_tables() -> None:
    case = json.loads((HERE / "cases" / "tcp.window_scale.json").read_text())
    node = GoldenNode(case["node"])
    outputs = golden_compare.replay(case, node.inject, node.advance)
    entries, fdb = node.conntrack(), node.fdb()
    assert golden_compare.judge(case, outputs, entries, fdb) == []
    for change in ("state", "timeout", "mark"):
        bent = copy.deepcopy(entries)
        bent[0][change] = "CLOSE" if change == "state" else 77
        assert golden_compare.judge(case, outputs, bent, fdb)
    assert golden_compare.judge(case, outputs, [], fdb)
    assert golden_compare.judge(case, outputs, entries, fdb - {min(fdb)})
