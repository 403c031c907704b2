"""The command: what it prints, what it refuses, and how it ends."""

import gzip
import io
import json
import os
import shlex
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import kubenet_fastpath as kf
from kubenet_fastpath import cli
from kubenet_fastpath.report import Table, show
from kubenet_fastpath.summary import PATHS

SAMPLE = Path(kf.__file__).with_name("data") / "sample.pcap"


def command(*args):
    return cli.main([*map(str, args)])


def capture_of(folder, link_type, records=b""):
    path = folder / "in.pcap"
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link_type) + records)
    return path


def test_replay_of_the_sample_explains_itself(tmp_path, capsys):
    assert command("replay", "--sample", "-o", tmp_path / "out") == 0
    out, err = capsys.readouterr()
    assert err == ""  # no progress: nobody looks
    assert "\x1b" not in out
    for word in ("10.244.1.0/24", "masqueraded", "CT_INVALID", "connections", "ns a packet", "7 captures"):
        assert word in out
    assert len(list((tmp_path / "out").iterdir())) == 7


def test_replay_without_a_folder_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("replay", SAMPLE) == 0
    assert list(tmp_path.iterdir()) == []
    assert "written" not in capsys.readouterr().out


def test_json(capsys):
    assert command("replay", SAMPLE, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["paths"]) == set(PATHS)
    assert sum(path["packets"] for path in told["paths"].values()) == told["packets"]["packets"]
    assert told["ns_per_packet"] > 0


def test_a_gzipped_capture(tmp_path, capsys):
    path = tmp_path / "in.pcap.gz"
    path.write_bytes(gzip.compress(SAMPLE.read_bytes()))
    assert command("replay", path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["packets"]["packets"] == len(kf.read_pcap(SAMPLE))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["missing.pcap"], ["missing.pcap", "No such file", "give one that is there"]),
        (["."], ["Is a directory"]),
        ([__file__], ["no capture"]),
        ([SAMPLE, "--pod-cidr", "10.244.1.5/24"], ["10.244.1.5/24"]),
        ([SAMPLE, "--pod-cidr", "nonsense"], ["nonsense"]),
        ([SAMPLE, "--pod-cidr", "10.244.1.0/31"], ["no room"]),
        ([SAMPLE, "--node-ip", "10.244.9.9"], ["inside cluster_cidr"]),
        ([SAMPLE, "--cluster-cidr", "10.9.0.0/16"], ["not inside cluster_cidr"]),
        ([SAMPLE, "-o", __file__], ["is a file"]),
        ([SAMPLE, "-o", __file__ + "/out"], ["Not a directory"]),
        ([SAMPLE, "-o", Path(__file__).parent], ["not empty", "--force"]),
    ],
)
def test_errors_are_one_sentence(args, words, capsys):
    assert command("replay", *args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("kubenet-fastpath: error: ")
    assert all(word in err for word in words)


def test_a_link_type_that_cannot_be_read(tmp_path, capsys):
    record = struct.pack("<IIII", 1, 0, 4, 4) + b"\2\0\0\0"
    assert command("replay", capture_of(tmp_path, 105, record)) == 2
    assert "IEEE802_11" in capsys.readouterr().err


def test_a_capture_that_is_cut_off_warns_once(tmp_path, capsys):
    path = tmp_path / "in.pcap"
    path.write_bytes(SAMPLE.read_bytes()[:-5])
    assert command("replay", path, "--json") == 0
    out, err = capsys.readouterr()
    assert err.startswith("kubenet-fastpath: warning: ")
    assert err.count("\n") == 1
    assert json.loads(out)["packets"]["packets"] == len(kf.read_pcap(SAMPLE)) - 1


@pytest.mark.parametrize("args", [[], ["replay"], ["replay", "--sample", "in.pcap"], ["fly"]])
def test_usage(args, capsys):
    assert command(*args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("kubenet-fastpath: error: ")
    assert err.endswith("--help)\n")


WRONG = """
compare --rounds x
compare --rounds 301
compare --seed x
compare --pod-cidr 10.0.0.0/8
compare --traffic {sample} --pod-cidr 10.0.0.0/99
compare --traffic {sample} {here}
compare {here}
compare {empty}
compare {none}
compare --html {folder}
compare --html {none}/page.html
compare --redact {folder}
explain
explain web
explain 'web -> db:99999'
explain 'web -> service:none/none:80'
explain 'web -> node:none:80'
explain 'web -> nothing:80'
explain 'nobody -> db:80'
explain 'web -> db:80' --addressing ipvlan
explain 'web -> db:80' --pod-cidr 10.0.0.0/8
explain 'web -> db:80' --cluster {none}
explain --frame x
explain --frame 3 --addressing overlay
explain --frame 3 --node-ip 1.2.3
explain --frame 3 --pod-cidr nonsense
show
show bogus
show routes {none}
show routes {here}
show routes {sample} --node-ip 10.240.0.4/99
show routes {sample} --node node0
show routes --node none
show routes --node
lookup
lookup {here}
lookup {none} 10.0.0.1
lookup {empty} 10.0.0
lookup {empty} ''
lookup {empty} --csv --json 10.0.0.1
replay
replay --sample {sample}
replay {none}
replay {here}
replay {sample} --bogus
replay {sample} --node-ip x
replay {sample} --pod-cidr 10.0.0.0/33
"""


@pytest.mark.parametrize("line", WRONG.strip().splitlines())
def test_a_wrong_call_is_one_sentence(line, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"10.0.0.1\n")))
    empty = tmp_path / "empty.json"
    empty.write_text("[]")
    paths = {
        "sample": SAMPLE,
        "here": __file__,
        "empty": empty,
        "none": tmp_path / "none",
        "folder": tmp_path,
    }
    assert command(*shlex.split(line.format(**paths))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("kubenet-fastpath: error: ")


def test_interrupted(monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "replay", interrupt)
    assert command("replay", SAMPLE) == 130


def elsewhere(command, folder):
    """Run a command where no sources lie about, with the package that is under test."""
    path = str(Path(kf.__file__).parent.parent)
    run = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, run.stdout, run.stderr


def test_as_a_module(tmp_path):
    code, out, _ = elsewhere([sys.executable, "-m", "kubenet_fastpath", "--version"], tmp_path)
    assert code == 0
    assert out.startswith("kubenet-fastpath ")


def test_a_reader_who_leaves_early_is_no_error(tmp_path):
    line = f"{sys.executable} -m kubenet_fastpath replay {SAMPLE} --json | head -n 1; exit ${{PIPESTATUS[0]}}"
    code, _, err = elsewhere(["bash", "-c", line], tmp_path)
    assert (code, err) == (0, "")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_shows_on_a_terminal_only():
    for stream in (Terminal(), io.StringIO()):
        with cli.ProgressLine(stream) as progress:
            progress("forwarding", 5, 10)
        assert bool(stream.getvalue()) == stream.isatty()


def test_progress_without_rich(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    stream = Terminal()
    with cli.ProgressLine(stream) as progress:
        progress("forwarding", 5000, 10000)
    assert "forwarding: 5,000 of 10,000 packets" in stream.getvalue()


TABLE = Table("things", ("name", "n"), [("one", 1), ("many", 12345)])


def test_a_table_as_text():
    assert TABLE.text() == "things\n  name       n\n  one        1\n  many  12,345\n"


@pytest.mark.parametrize("rich", [True, False])
def test_tables_on_a_terminal(rich, monkeypatch):
    if rich:
        pytest.importorskip("rich")
    else:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    stream = Terminal()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        show(["a [text] as it is\n", TABLE], stream)
    assert "a [text] as it is" in stream.getvalue()
    assert "12,345" in stream.getvalue()
