"""Break one rule of each stage on purpose, and see how many histories the kernel needs to tell.

    python tests/kernel/mutants.py build [--anew]     # compile every mutant, half a minute each on a busy machine
    python tests/kernel/mutants.py run [--seconds N]  # those that have no result yet, until the time is up
    python tests/kernel/mutants.py report

A mutant is one replacement in one module of a copied source tree, `build/mutants`; the module that comes of it is put
in the place of the right one for a soak in the mode that it concerns (see `soak`). It is not part of the tests.

Most of it is the list.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from kernel import soak

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "mutants"
RESULTS = WORK / "results.json"
MOST = 200
SLICE = 20  # histories at a time


class Mutant(NamedTuple):
    name: str
    module: str
    old: str
    new: str
    mode: str = "kubenet"


DUAL = "kubenet dual"
MUTANTS = (
    Mutant(
        "bridge learning: not at all",
        "bridge",
        "    fdb_learn(node.fdb, load_mac(p.frame + ETH_SRC), 0, p.port, p.now)\n    if not dst",
        "    if not dst",
    ),
    Mutant(
        "FDB ageing: never",
        "pipeline",
        "    fdb_age(node.fdb, now)\n    node.now = max(node.now, now)\n",
        "    node.now = max(node.now, now)\n",
    ),
    Mutant(
        "ebtables dedup: passes",
        "egress",
        "    return src != node.dedup_gateway and (src",
        "    return False and (src",
    ),
    Mutant(
        "same port: reflected",
        "bridge",
        "(port != p.port or device.hairpin)",
        "(port != p.port or True)",
    ),
    Mutant("hairpin: never", "bridge", "(port != p.port or device.hairpin)", "port != p.port"),
    Mutant(
        "br_netfilter: headers not checked",
        "bridge",
        "        end = check_header6(p) if six else check_header(p)\n"
        "        if end != PASS:\n            return end\n        if six:\n            memcpy(to6",
        "        if six:\n            memcpy(to6",
    ),
    Mutant(
        "bridged DNAT: TTL counts",
        "bridge",
        "        store_mac(p.frame + ETH_DST, t.row[index].mac)\n        return PASS\n    waiting",
        "        store_mac(p.frame + ETH_DST, node.interface[bridge].mac)\n        return PASS\n    waiting",
    ),
    Mutant(
        "promiscuous copy: keeps its connection",
        "bridge",
        "        up.conn, up.info = NO_CONN, CT_INVALID\n",
        "        up.info = p.info\n",
    ),
    Mutant(
        "multicast: queries do not count",
        "igmp",
        "        multicast_general_query(m, False,",
        "        0 and multicast_general_query(m, False,",
    ),
    Mutant(
        "MLD: reports are flooded",
        "mld",
        "            return SNOOP_ROUTERS if",
        "            return SNOOP_FLOOD if",
    ),
    Mutant(
        "ARP: nobody answers for own addresses",
        "arp",
        "    if node.hops[p.hop].type == ROUTE_LOCAL:\n        return True\n",
        "    if node.hops[p.hop].type == ROUTE_LOCAL:\n        return False\n",
    ),
    Mutant(
        "proxy ARP: off",
        "arp",
        "    return node.interface[p.dev].proxy_arp and",
        "    return False and",
        "azcni",
    ),
    Mutant(
        "neighbour queue: the newest alone leaves",
        "resolution",
        "            if transmit(node, &p, t.row[neighbour].dev) != PASS:\n",
        "            if t.row[neighbour].first != NULL:\n                continue\n"
        "            if transmit(node, &p, t.row[neighbour].dev) != PASS:\n",
    ),
    Mutant(
        "neighbour: one probe more",
        "neighbour",
        "n.probes >= UCAST_PROBES + (",
        "n.probes >= 1 + UCAST_PROBES + (",
    ),
    Mutant(
        "neighbour failure: nobody is told",
        "pipeline",
        "            elif options_read_again(node, &p):\n",
        "            elif False:\n",
    ),
    Mutant(
        "conntrack: an answer does not count",
        "tracker",
        "    timeout[0] = t.timeout[EXPIRY_ICMP]\n",
        "    timeout[0] = t.timeout[EXPIRY_GENERIC]\n",
    ),
    Mutant(
        "ASSURED: TCP never is",
        "tcp",
        "        conn.status |= IPS_ASSURED\n    return TRACK_REFRESH",
        "        pass\n    return TRACK_REFRESH",
    ),
    Mutant(
        "TCP state: RST does not close",
        "tcp",
        "    conn.state = new\n    if old != new",
        "    conn.state = old if new == TCPS_CLOSE else new\n    if old != new",
    ),
    Mutant(
        "TCP window: none",
        "tcp",
        "        if window == WINDOW_INVALID:\n",
        "        if False:\n",
    ),
    Mutant(
        "conntrack time-outs: UDP as streams",
        "tracker",
        "        c.stream_after = now + 2 * <int64_t>SECOND\n",
        "        c.stream_after = now\n",
    ),
    Mutant(
        "INVALID: passes",
        "hooks",
        "        return drop(R_CT_INVALID) if node.drop_invalid and p.info != CT_UNTRACKED else PASS\n",
        "        return PASS\n",
    ),
    Mutant(
        "NAT port: taken ones are used",
        "nat",
        "    tuple_invert(&reply, candidate)\n    return ct_taken(t, &reply, conn, now)\n",
        "    tuple_invert(&reply, candidate)\n    return False\n",
    ),
    Mutant(
        "masquerade: the node itself too",
        "hooks",
        "else owns(node, dst)):\n        return False\n    for k in range(node.n_direct):\n",
        "else owns(node, dst)) and False:\n        return False\n    for k in range(node.n_direct):\n",
    ),
    Mutant(
        "masquerade: nothing is left alone",
        "hooks",
        "        if (node.direct[k].ip ^ dst) & node.direct[k].mask == 0:\n",
        "        if False:\n",
    ),
    Mutant(
        "NAT reply: not undone",
        "hooks",
        "(manip == MANIP_SRC) == (p.info < CT_ESTABLISHED_REPLY)",
        "manip == MANIP_SRC",
    ),
    Mutant(
        "ICMP error NAT: the quote stays",
        "hooks",
        "            if not nat_icmp_error(",
        "            if False and not nat_icmp_error(",
    ),
    Mutant(
        "service DNAT: off by one port",
        "hooks",
        "    chosen.min_port = chosen.max_port = endpoint.port\n",
        "    chosen.min_port = chosen.max_port = endpoint.port + 1\n",
    ),
    Mutant(
        "service: endpoint of its own is not masqueraded",
        "kubeproxy",
        "    if endpoint.ip == to.src:\n",
        "    if False:\n",
    ),
    Mutant("affinity: forgotten", "kubeproxy", "    if door.affinity:\n        for i", "    if False:\n        for i"),
    Mutant(
        "external policy Local: ignored",
        "kubeproxy",
        "    return draw(node, p, door, True, to)\n",
        "    return draw(node, p, door, False, to)\n",
    ),
    Mutant(
        "source ranges: all come in",
        "kubeproxy",
        "    return in_prefix(source, &row.prefix)\n",
        "    return True\n",
    ),
    Mutant(
        "host port: none",
        "kubeproxy",
        "            endpoint = host_port(node, p, door, to)\n",
        "            endpoint = NULL\n",
    ),
    Mutant("TTL: stays", "forward", "    l3[IP_TTL] -= 1\n", "    l3[IP_TTL] -= 0\n"),
    Mutant("TTL: 1 passes", "forward", "    if l3[IP_TTL] <= 1:\n", "    if l3[IP_TTL] < 1:\n"),
    Mutant(
        "MTU: nobody is told",
        "forward",
        "        icmp_send(node, p, ICMP_UNREACH, FRAG_NEEDED, mtu)\n        return drop(R_PKT_TOO_BIG)\n",
        "        return drop(R_PKT_TOO_BIG)\n",
    ),
    Mutant(
        "path MTU: none is locked",
        "path_mtu",
        "    locked = mtu < LEAST_PATH_MTU\n",
        "    locked = False\n",
    ),
    Mutant(
        "path MTU: the node itself does not keep to it",
        "egress",
        "    return path_mtu(node.path_mtus, p.hop, destination_of(node, p), link, node.now)\n",
        "    return link\n",
    ),
    Mutant(
        "path MTU: whoever is forwarded does not keep to it",
        "forward",
        "path_mtu_forward(node.path_mtus, p.hop, load32(l3 + IP_DST), link, node.now)",
        "link",
        "overlay",
    ),
    Mutant(
        "path MTU of IPv6: too small for it",
        "path_mtu",
        "    if mtu < LEAST_PATH_MTU6 or mtu >= (link",
        "    if mtu >= (link",
        DUAL,
    ),
    Mutant(
        "refragmentation: as large as fits",
        "egress",
        "    if origin != NULL and origin.max_size < mtu:\n        mtu = origin.max_size\n",
        "",
        "azcni",
    ),
    Mutant(
        "reassembly: no time-out",
        "pipeline",
        "            if defrag_expire(fragments, when, &expired):\n                end_reassembly(node, &expired)\n",
        "            defrag_expire(fragments, when, &expired)\n",
    ),
    Mutant(
        "rp_filter: strict is loose",
        "route",
        "    if dev.rp_filter == 1:\n        return -2\n",
        "",
    ),
    Mutant(
        "martian sources: pass",
        "route",
        "    if back.type != ROUTE_UNICAST:\n        return -1\n",
        "    if back.type != ROUTE_UNICAST:\n        return 0\n",
    ),
    Mutant(
        "redirects: none",
        "forward",
        "        send_redirect(node, p, next_hop)\n",
        "        pass\n",
    ),
    Mutant(
        "IP options: no route is recorded",
        "options",
        "        store32(option + pointer - 1, own_address(node, p))\n        option[2] = pointer + 4\n"
        "        p.option_flags |= OPTION_RECORD | OPTION_CHANGED\n",
        "        pass\n",
    ),
    Mutant(
        "IP options: source routes go on",
        "forward",
        "    if wrong == OPTIONS_SOURCE_ROUTE:\n        return drop(R_SOURCE_ROUTE)\n",
        "    if wrong == OPTIONS_SOURCE_ROUTE:\n        return PASS\n",
    ),
    Mutant(
        "ICMP rate limit: one less",
        "icmp",
        "    XRLIM_BURST = 6\n",
        "    XRLIM_BURST = 5\n",
    ),
    Mutant(
        "ICMP unreachables: no limit",
        "icmp",
        "    if q.tokens < SECOND:\n        return False\n",
        "    if q.tokens < SECOND:\n        return True\n",
    ),
    Mutant(
        "REJECT: silent",
        "icmp",
        "    icmp_send(node, p, ICMP_UNREACH, PORT_UNREACH, 0)\n    p.type = type\n",
        "    p.type = type\n",
    ),
    Mutant(
        "local delivery: closed ports are silent",
        "local",
        "        if unicast and p.type == PACKET_HOST:           # tcp_v4_rcv\n",
        "        if False:\n",
    ),
    Mutant(
        "VLAN: tagged frames reach the router",
        "pipeline",
        "        if not p.vlan_zero:\n            return drop(R_OTHERHOST)\n",
        "",
    ),
    Mutant(
        "MLD: who is done stays",
        "mld",
        "            multicast_leave(m, group, port, now)\n            return SNOOP_FLOOD\n",
        "            return SNOOP_FLOOD\n",
    ),
    Mutant(
        "GRE: all versions are translated",
        "nat",
        "manip == MANIP_SRC or load16(l4) & 7 < 2",
        "True",
        "azcni",
    ),
    Mutant(
        "IPv6 fragments: a wrong end is the end of all",
        "defrag",
        "    elif fate != FATE_DUPLICATE and not (fate == FATE_BAD_END and g.six):\n",
        "    elif fate != FATE_DUPLICATE:\n",
        DUAL,
    ),
    Mutant(
        "IPv6 fragments: the fragment header stays",
        "reassembly",
        "        ip[r.next] = piece_bytes(head)[head.l3 + header]\n",
        "        pass\n",
        DUAL,
    ),
    Mutant(
        "IPv6 fragments: those without the transport's header are gathered",
        "header6",
        "    if lacks_headers(l3, n, at):\n        return PASS\n",
        "",
        DUAL,
    ),
    Mutant(
        "IPv6 fragments: cut small again below 1280",
        "fragment",
        "        mtu = max(origin.max_size, <uint32_t>LEAST_MTU6)\n",
        "        mtu = origin.max_size\n",
        DUAL,
    ),
    Mutant(
        "IPv6 fragments: destination options are cut, too",
        "fragment",
        "(l3[next[0]] == EXT_DESTINATION and not routed)",
        "(l3[next[0]] == EXT_DESTINATION and routed)",
        DUAL,
    ),
    Mutant(
        "ICMPv6: without a limit nothing is spent",
        "icmp6",
        "    if not spend_token(node, find_peer",
        "    if node.icmp6.interval and not spend_token(node, find_peer",
        DUAL,
    ),
    Mutant(
        "IPv6 header: what lies behind the packet stays",
        "header6",
        "    p.length = p.l3 + total\n",
        "",
        DUAL,
    ),
    Mutant(
        "IPv6 options: unknown ones are all skipped",
        "options6",
        "    if what == 0:\n        return True\n",
        "    if what == what:\n        return True\n",
        DUAL,
    ),
    Mutant(
        "IPv6 options: what a sender has to be told of is silent",
        "options6",
        "    if what == 2 or (what == 3 and",
        "    if (what == 3 and",
        DUAL,
    ),
    Mutant(
        "ICMPv6: quotes less",
        "icmp6",
        "    QUOTE = 1280 - IP6_LEN - ICMP_LEN\n",
        "    QUOTE = 1272 - IP6_LEN - ICMP_LEN\n",
        DUAL,
    ),
    Mutant(
        "ICMPv6: errors about errors",
        "icmp6",
        "    if is_unspecified6(to) or is_multicast6(to) or about_error(p):\n",
        "    if is_unspecified6(to) or is_multicast6(to):\n",
        DUAL,
    ),
    Mutant(
        "IPv6 REJECT: silent",
        "icmp6",
        "    tell(node, p, ICMP6_UNREACH, PORT_UNREACH, 0, bridged)\n",
        "    pass\n",
        DUAL,
    ),
    Mutant(
        "NDP: nobody answers a detection",
        "ndisc",
        "    if detecting:\n        send_discovery(",
        "    if detecting:\n        return\n        send_discovery(",
        DUAL,
    ),
    Mutant(
        "NDP: answers do not override",
        "ndisc",
        "(OVERRIDE if mine and group else <uint32_t>0)",
        "(<uint32_t>0)",
        DUAL,
    ),
    Mutant(
        "NDP: any hop limit does",
        "ndisc",
        "    if p.frame[p.l3 + IP6_HOPS] != 255 or icmp[ICMP_CODE] != 0:\n",
        "    if icmp[ICMP_CODE] != 0:\n",
        DUAL,
    ),
    Mutant(
        "IPv6 redirects: none",
        "forward6",
        "        send_redirect6(node, p, hop.dev, next_hop)\n",
        "        pass\n",
        "overlay dual",
    ),
    Mutant(
        "IPv6 source address: scope does not matter",
        "route6",
        "    value = value << 9 | (256 - reach if reach >= wanted else 256 + reach - 128)\n",
        "",
        DUAL,
    ),
    Mutant(
        "IPv6 routes: a blackhole is unreachable",
        "route6",
        "        return drop(R_BLACKHOLE)\n",
        "        return drop(R_IP_INNOROUTES)\n",
        DUAL,
    ),
    Mutant(
        "IPv6 hop limit: stays",
        "forward6",
        "    p.frame[p.l3 + IP6_HOPS] -= 1\n",
        "    p.frame[p.l3 + IP6_HOPS] -= 0\n",
        DUAL,
    ),
    Mutant(
        "IPv6 routes: prohibit is no route",
        "forward6",
        "PROHIBITED if p.hop != NO_HOP and (",
        "PROHIBITED if False and (",
        DUAL,
    ),
    Mutant(
        "IPv6 local delivery: an echo loses its class",
        "local6",
        "    made.frame[made.l3 + 1] |= l3[1] & 0xF0\n",
        "",
        DUAL,
    ),
    Mutant(
        "IPv6 local delivery: unknown headers are silent",
        "local6",
        "    elif proto != EXT_NONE:\n",
        "    elif False:\n",
        DUAL,
    ),
    Mutant(
        "IPv6 masquerade: nothing is left alone",
        "hooks",
        "        if in_prefix(dst, &node.direct6[k]):\n",
        "        if False:\n",
        DUAL,
    ),
    Mutant(
        "IPv6 NAT: ICMPv6's checksum stays",
        "nat",
        "        check = csum_replace32(load16(l4 + ICMP_CHECK), old_ip, new_ip)\n        if l4",
        "        check = load16(l4 + ICMP_CHECK)\n        if l4",
        DUAL,
    ),
)  # fmt: skip


def tree() -> Path:
    """The copied sources, with what has been compiled of them: those of the first call, until WORK is removed."""
    copy = WORK / "tree"
    if copy.exists():
        return copy
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "kubenet_fastpath", "build/release"):
        source, target = ROOT / name, copy / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return copy


def folder(mutant: Mutant) -> Path:
    return WORK / re.sub(r"\W+", "-", mutant.name)


# As setup.py has it, but for one module, and so that the compiler is done soon.
COMPILE = """
import importlib.util, shlex, subprocess, sys, sysconfig
from Cython.Build import cythonize
spec = importlib.util.spec_from_file_location("package", "setup.py")
package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
name, out = sys.argv[1:]
one = package.extension(f"kubenet_fastpath.{name}", f"kubenet_fastpath/{name}.pyx")
(made,) = cythonize([one], compiler_directives=package.DIRECTIVES, build_dir=package.BUILD, quiet=True,
                    shared_utility_qualified_name=package.SHARED)
include = [f"-I{folder}" for folder in (*made.include_dirs, sysconfig.get_path("include"))]
compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
flags = ["-shared", "-fPIC", "-fwrapv", "-O1", "-std=gnu11", "-w"]
subprocess.run([*compiler, *flags, *include, *made.sources, "-o", out],
               check=True)
"""


def build(chosen: list[Mutant]) -> None:
    """Compile each mutant's module that is not there yet."""
    copy = tree()
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for mutant in chosen:
        source = copy / "kubenet_fastpath" / f"{mutant.module}.pyx"
        right = source.read_text()
        if right.count(mutant.old) != 1:
            sys.exit(f"{mutant.name}: {mutant.module}.pyx has no such text any more")
        package = folder(mutant) / "kubenet_fastpath"
        made = package / f"{mutant.module}{suffix}"
        if made.exists() and not made.is_symlink():
            continue
        shutil.rmtree(folder(mutant), ignore_errors=True)
        package.mkdir(parents=True)
        source.write_text(right.replace(mutant.old, mutant.new))
        command = [sys.executable, "-c", COMPILE, mutant.module, str(folder(mutant) / "made.so")]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
        source.write_text(right)
        if done.returncode:
            sys.exit(f"{mutant.name} does not compile:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        for file in (
            copy / "kubenet_fastpath"
        ).iterdir():  # which stays as it is when the sources are built anew
            if file.name not in ("__pycache__", made.name):
                (package / file.name).symlink_to(file)
        (folder(mutant) / "made.so").rename(made)
        print(f"{mutant.name}: built", flush=True)


def hunt(mutant: Mutant, before: int, seed: int) -> tuple[int, bool, int]:
    """A slice of histories: how many there were by now, whether the difference showed, and the seed to go on with."""
    environment = os.environ | {"PYTHONPATH": f"{folder(mutant)}{os.pathsep}{ROOT / 'tests'}"}
    command = soak.command(mutant.mode, seed, min(SLICE, MOST - before))
    done = subprocess.run(
        command, cwd=folder(mutant), env=environment, capture_output=True, text=True, check=False
    )
    (folder(mutant) / "log.txt").write_text(done.stdout + done.stderr)
    match = re.search(r"histories: (\d+)", done.stdout)
    if match is None or done.returncode not in (0, 1):
        raise RuntimeError(f"{mutant.name}: see {folder(mutant) / 'log.txt'}")
    # The history that fails runs twice, or thrice: Hypothesis shows it once more.
    return before + int(match[1]) - done.returncode, done.returncode == 1, seed + 1


def known() -> dict[str, tuple[int, bool, int]]:
    """Of each mutant: histories, whether it was found, the seed to go on with."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def run(chosen: list[Mutant], seconds: float, processes: int) -> None:
    """Hunt for those that have not been found yet, some at a time; what ran is kept after each slice."""
    results = known()
    until = time.monotonic() + seconds

    def one(mutant: Mutant) -> None:
        count, found, seed = results.get(mutant.name, (0, False, 1))
        while not found and count < MOST and time.monotonic() < until:
            try:
                count, found, seed = hunt(mutant, count, seed)
            except RuntimeError as error:
                print(error, flush=True)
                return
            results[mutant.name] = count, found, seed
            RESULTS.write_text(json.dumps(results))
            if found or count >= MOST:
                print(
                    f"{mutant.name}: {'found' if found else 'NOT found'} after {count} histories", flush=True
                )

    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(one, [mutant for mutant in chosen if folder(mutant).exists()]))


def report(chosen: list[Mutant]) -> None:
    """What is known of each."""
    results = known()
    for mutant in chosen:
        count, found, _ = results.get(mutant.name, (0, False, 1))
        said = f"{count:>4} histories" if found else f"not in {count}" if count else "no result"
        print(f"{mutant.name:<56} {mutant.module:<12} {mutant.mode:<13} {said}")
    dead = sum(results.get(mutant.name, (0, False))[1] for mutant in chosen)
    print(f"{dead} of {len(chosen)} found within {MOST} histories")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("what", choices=("build", "run", "report"))
    parser.add_argument("name", nargs="*", help="parts of mutants' names (default: all)")
    parser.add_argument("--seconds", type=float, default=1e9, metavar="N", help="of `run`")
    parser.add_argument(
        "--processes", type=int, default=3 * (os.cpu_count() or 1), metavar="N", help="of `run`"
    )
    parser.add_argument("--anew", action="store_true", help="the sources have changed: `build` forgets all")
    given = parser.parse_args()
    if given.anew and given.what == "build":
        shutil.rmtree(WORK, ignore_errors=True)
    chosen = [m for m in MUTANTS if not given.name or any(part in m.name for part in given.name)]
    WORK.mkdir(parents=True, exist_ok=True)
    if given.what == "build":
        build(chosen)
    elif given.what == "run":
        run(chosen, given.seconds, given.processes)
    else:
        report(chosen)


if __name__ == "__main__":
    main()
