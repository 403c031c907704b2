"""The command `kubenet-fastpath`."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

from .address_source import open_addresses
from .argument_type import interface_address, prefix
from .compare_command import add_compare
from .errors import CaptureWarning, FastpathError
from .explain_command import add_explain
from .lookup import Format, Lookup
from .prefix_list import read_prefixes
from .progress import ProgressLine
from .replay import replay
from .report import labelled, replay_tables, show
from .show_command import add_show
from .summary import Summary

__all__ = ["main"]

SAMPLE = Path(__file__).with_name("data") / "sample.pcap"
PROG = "kubenet-fastpath"
BAD_ADDRESSES = 1  # exit code of a lookup that met something else
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def _summary_json(summary: Summary) -> dict[str, Any]:
    measured = {"ns_per_packet": summary.ns_per_packet, "packets_per_s": summary.packets_per_s}
    return asdict(summary) | measured


def run_replay(args: argparse.Namespace) -> int:
    """`kubenet-fastpath replay`."""
    capture = SAMPLE if args.sample else args.capture
    with ProgressLine(sys.stderr) as progress:
        summary = replay(
            capture,
            args.output,
            pod_cidr=args.pod_cidr,
            cluster_cidr=args.cluster_cidr,
            node_ip=args.node_ip,
            force=args.force,
            progress=progress,
        )
    if args.json:
        print(json.dumps(_summary_json(summary), indent=2))
        return 0
    if args.sample:
        summary.capture = f"{SAMPLE.name}, which comes with the package"
    parts = replay_tables(summary)
    if args.output is not None:
        written = sum(traffic.packets > 0 for traffic in summary.outputs.values())
        files = f"{args.output}: {len(summary.outputs)} captures, one a port, {written} of them with packets"
        parts.append(labelled([("written", files)]))
    show(parts, sys.stdout)
    return 0


def _add_replay(commands: Any) -> None:
    parser = commands.add_parser(
        "replay",
        help="forward a capture through a kubenet node and say what became of each packet",
        description="Forward a capture through a kubenet node: the hosts of one prefix are its pods, all others "
        "are behind eth0. Every packet ends in one path, or in one reason to be dropped.",
        epilog="Take the capture in a pod, on the bridge or in a LAN: where nothing is translated yet.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "capture", nargs="?", type=Path, metavar="IN.pcap", help="pcap or pcapng, gzipped or not"
    )
    source.add_argument("--sample", action="store_true", help="the capture that comes with the package")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="OUT", help="folder that receives one capture a port"
    )
    parser.add_argument(
        "--pod-cidr",
        type=prefix,
        metavar="CIDR",
        help="whose hosts are the pods (default: the private /24 with most)",
    )
    parser.add_argument(
        "--cluster-cidr",
        type=prefix,
        metavar="CIDR",
        help="pods of all nodes (default: the /16 around the pods)",
    )
    parser.add_argument(
        "--node-ip",
        type=interface_address,
        metavar="IP[/LEN]",
        help="address of eth0 (default: one that the capture leaves free)",
    )
    parser.add_argument("--force", action="store_true", help="write into a folder that is not empty")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run_replay)


def run_lookup(args: argparse.Namespace) -> int:
    """`kubenet-fastpath lookup`."""
    if not args.addresses and sys.stdin.isatty():
        raise ValueError("no addresses: name some, or a file of them, or - for standard input")
    blocks = open_addresses(args.addresses or ["-"], sys.stdin.buffer, args.column)
    plain = Format.ALIGNED if sys.stdout.isatty() else Format.TABS
    form = Format.JSON if args.json else Format.CSV if args.csv else plain
    lookup = Lookup(read_prefixes(args.table, mask_host_bits=args.mask_host_bits), form)
    for lines in lookup.run(blocks):
        sys.stdout.buffer.write(lines)
        sys.stdout.buffer.flush()
    if not lookup.bad:
        return 0
    total = lookup.found + lookup.missed + lookup.bad
    mend = (
        " (--column says which column of CSV has them)" if lookup.bad == total and args.column is None else ""
    )
    print(f"{PROG}: warning: {lookup.bad:,} of {total:,} are no addresses{mend}", file=sys.stderr)
    return BAD_ADDRESSES


def _add_lookup(commands: Any) -> None:
    parser = commands.add_parser(
        "lookup",
        help="say which prefix of a list covers each address",
        description="For each address, the longest prefix of a list that covers it, and that prefix's label: "
        "separated by tabs, aligned on a terminal. A miss is -, what is no address is marked with !.",
        epilog="Exit code: 0; 1 if something was no address; 2 for an error.",
    )
    parser.add_argument(
        "table",
        type=Path,
        metavar="TABLE",
        help="lines PREFIX, PREFIX LABEL or PREFIX,LABEL, IPv4 and IPv6, gzipped or not; or what RouteTable.save "
        "has written",
    )
    parser.add_argument(
        "addresses",
        nargs="*",
        metavar="ADDRESS|FILE|-",
        help="addresses; files of text, CSV or Parquet that have some; - for standard input (default)",
    )
    parser.add_argument(
        "--column", metavar="NAME|NUMBER", help="of CSV or Parquet, from 1 (default: a line's first word)"
    )
    parser.add_argument(
        "--mask-host-bits",
        action="store_true",
        help="clear bits behind a prefix length instead of refusing them",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="write a JSON object a line")
    output.add_argument("--csv", action="store_true", help="write CSV with a header")
    parser.set_defaults(run=run_lookup)


COMMANDS = (_add_replay, add_compare, add_explain, add_show, _add_lookup)


def _version() -> str:
    try:
        return version(PROG)
    except PackageNotFoundError:
        return "not installed"


class UsageError(ValueError):
    """Arguments that are none of the command's."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, as all errors are said."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=PROG, description="A Linux node's datapath in user space.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    return parser


#: What the system's refusals of a file ask for.
MENDS = {
    errno.ENOENT: "; give one that is there",
    errno.EACCES: "; give one that you may open",
    errno.EISDIR: "; give a file",
    errno.ENOTDIR: "; give a folder",
    errno.ENOSPC: "; make room there",
}


def _explain(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}{MENDS.get(error.errno or 0, '')}"
    return str(error) or type(error).__name__


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: what the command says, or 2 with one sentence on stderr."""
    said: set[str] = set()

    def warn(message: Warning | str, category: type[Warning], *_: object) -> None:
        if str(message) not in said:
            said.add(str(message))
            print(f"{PROG}: warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", CaptureWarning)
        warnings.showwarning = warn  # type: ignore[assignment]
        try:
            if sys.stdin is None or sys.stdout is None:
                raise ValueError("standard input or output is closed: lead it from or to /dev/null")
            args = _parser().parse_args(argv)
            return int(args.run(args))
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (FastpathError, OSError, ValueError) as error:
            print(f"{PROG}: error: {_explain(error)}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            return INTERRUPTED
