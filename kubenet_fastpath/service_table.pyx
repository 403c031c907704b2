"""ServiceTable: where an address and port lead, as kube-proxy's and portmap's chains say it.

The chains are walked by number of rule in the kernel; here a keyed hash names the one rule that would match, so ten
thousand services cost a packet no more than ten do. Lists of clients follow net/netfilter/xt_recent.c. A new set of
services is built beside the old one and put in its place at once; lists of clients whose endpoint stays, stay.
"""

cimport cython
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memmove, memset

cdef extern from "csrc/slab.h" nogil:
    void* kf_lines_alloc(size_t size)

cdef int64_t SECOND = 1_000_000_000


cdef void clients_remove(clients_t* clients, uint32_t i) noexcept nogil:
    clients.n -= 1
    memmove(&clients.ip[i], &clients.ip[i + 1], (clients.n - i) * sizeof(uint32_t))
    memmove(&clients.stamp[i], &clients.stamp[i + 1], (clients.n - i) * sizeof(int64_t))


cdef uint32_t clients_find(const clients_t* clients, uint32_t ip) noexcept nogil:
    cdef uint32_t i
    for i in range(clients.n):
        if clients.ip[i] == ip:
            break
    else:
        return clients.n
    return i


cdef void clients_set(clients_t* clients, uint32_t ip, int64_t now) noexcept nogil:
    """`--set`: the client is the latest one; the 101st pushes the first one out (recent_entry_init, _update)."""
    cdef uint32_t i = clients_find(clients, ip)
    if i < clients.n:
        clients_remove(clients, i)
    elif clients.n == CLIENTS:
        clients_remove(clients, 0)
    clients.ip[clients.n], clients.stamp[clients.n] = ip, now
    clients.n += 1


cdef bint clients_check(const clients_t* clients, uint32_t ip, int64_t seconds, int64_t now) noexcept nogil:
    """`--rcheck --seconds`: whether the client has been here so lately.

    What `--reap` removes no check would meet, and it would be the first to be pushed out: it need not be done.
    """
    cdef uint32_t i = clients_find(clients, ip)
    return i < clients.n and clients.stamp[i] >= now - seconds


cdef bint doors_init(doors_t* doors, size_t n) noexcept nogil:
    cdef uint64_t size = 8
    while size < 2 * n:
        size *= 2
    doors.row = <door_t*>kf_lines_alloc(size * sizeof(door_t))
    doors.mask, doors.used = size - 1, 0
    memset(doors.seen, 0, sizeof(doors.seen))
    doors.spaces = 0
    return doors.row != NULL


cdef void doors_add(const service_table_t* t, doors_t* doors, door_t door) noexcept nogil:
    cdef uint64_t i = kf_hash64(
        <uint64_t>door.ip << 32 | <uint64_t>door.port << 16 | <uint32_t>door.proto << 8 | door.space, t.secret)
    doors.seen[i >> 61] |= <uint64_t>1 << (i >> 55 & 63)
    while doors.row[i & doors.mask].kind != DOOR_FREE:
        i += 1
    doors.row[i & doors.mask] = door
    doors.used += 1
    doors.spaces |= <uint32_t>1 << door.space


cdef door_t make_door(uint8_t kind, uint32_t ip, uint8_t proto, uint16_t port, int family=4):
    cdef door_t door
    memset(&door, 0, sizeof(door_t))
    door.kind, door.ip, door.proto, door.port = kind, ip, proto, port
    door.space = SPACE_ADDRESS
    if kind == DOOR_NODE_PORT:
        door.space = SPACE_NODE_PORT
    elif kind == DOOR_HOST_PORT:
        door.space = SPACE_HOST_PORT
    if family == 6:
        door.space += SPACE_IP6
    return door


cdef door_t service_door(uint8_t kind, uint32_t ip, uint8_t proto, uint16_t port, chain, uint32_t first,
                         const endpoint_t* endpoint, uint32_t ranges):
    cdef door_t door = make_door(kind, ip, proto, port, chain.family)
    cdef uint32_t i
    door.external_local, door.internal_local = chain.external_local, chain.internal_local
    door.ranges = ranges
    door.affinity = chain.affinity // SECOND
    door.first, door.n, door.n_local = first, len(chain.targets), len(chain.local)
    for i in range(min(door.n, <uint32_t>NEAR)):
        door.near[i] = endpoint[first + i]
    return door


cdef prefix_t make_prefix(int family, network, uint8_t length):
    cdef prefix_t prefix
    cdef bytes octets = network.to_bytes(4 if family == 4 else 16, "big")
    memset(&prefix, 0, sizeof(prefix_t))
    memcpy(prefix.ip, <const uint8_t*>octets, len(octets))
    prefix.length = length
    return prefix


@cython.final
cdef class Clients:
    """One list of clients; a table's endpoints point into it."""

    cdef clients_t list


@cython.final
cdef class ServiceTable:
    """Services and host ports as the datapath looks at them. `node.Node` owns one and is its only user.

    Parameters
    ----------
    seed : int
        Keys the hash.
    """

    def __cinit__(self, seed=0):
        cdef uint64_t state = <uint64_t>(seed & 0xFFFFFFFFFFFFFFFF)
        self.table.secret[0], self.table.secret[1] = kf_splitmix(&state), kf_splitmix(&state)
        self._clients = {}

    def __dealloc__(self):
        free(self.table.doors.row)
        free(self.table.refusals.row)
        free(self.table.host_doors.row)
        free(self.table.endpoint)
        free(self.table.clients)
        free(self.table.host_port)
        free(self.table.range)

    def replace(self, plan):
        """Put the rows of a `service_plan.ServicePlan` in place of the present ones.

        Raises
        ------
        MemoryError
            Nothing has changed then.
        """
        cdef service_table_t* t = &self.table
        cdef doors_t doors, refusals
        cdef size_t n = sum(len(chain.targets) + len(chain.local) for chain in plan.chains), at = 0
        cdef endpoint_t* endpoints = <endpoint_t*>calloc(n + 1, sizeof(endpoint_t))
        cdef clients_t** lists = <clients_t**>calloc(n + 1, sizeof(clients_t*))
        cdef size_t n_ranges = sum(len(chain.ranges) for chain in plan.chains), place = 0
        cdef range_t* ranges = <range_t*>calloc(n_ranges + 1, sizeof(range_t))
        cdef bint fits = (doors_init(&doors, len(plan.doors)) and endpoints != NULL and lists != NULL
                          and ranges != NULL)
        cdef door_t door
        if not doors_init(&refusals, len(plan.refusals)) or not fits:
            free(endpoints)
            free(lists)
            free(ranges)
            free(doors.row)
            free(refusals.row)
            raise MemoryError(f"no memory for {len(plan.chains)} services")
        clients = {}
        first, guards = [], []
        for chain in plan.chains:
            first.append(at)
            guards.append(place + 1)
            for network, length in chain.ranges:
                ranges[place].prefix = make_prefix(chain.family, network, length)
                place += 1
            if chain.ranges:
                ranges[place - 1].last = True
            for ip, port, key in (*chain.targets, *chain.local):
                endpoints[at].ip, endpoints[at].port, endpoints[at].family = ip, port, chain.family
                if key is not None:
                    if key not in clients:
                        clients[key] = self._clients.get(key) or Clients()
                    lists[at] = &(<Clients>clients[key]).list
                at += 1
        for kind, ip, proto, port, number, guarded in plan.doors:
            doors_add(t, &doors, service_door(kind, ip, proto, port, plan.chains[number], first[number], endpoints,
                                              guards[number] if guarded else 0))
        for kind, ip, proto, port, why, family in plan.refusals:
            door = make_door(kind, ip, proto, port, family)
            door.why = why
            doors_add(t, &refusals, door)
        free(t.doors.row)
        free(t.refusals.row)
        free(t.endpoint)
        free(t.clients)
        free(t.range)
        t.doors, t.refusals, t.endpoint, t.clients, t.range = doors, refusals, endpoints, lists, ranges
        t.n_endpoints = at
        t.changes += 1
        self._clients, self.services = clients, len(plan.chains)

    def replace_host_ports(self, rows):
        """Put these host ports in place of the present ones.

        Parameters
        ----------
        rows : sequence of node_plan.HostPortRow
            Of two with one address, protocol and port the first one counts.
        """
        cdef doors_t doors
        cdef door_t door
        cdef host_port_t* table = <host_port_t*>calloc(len(rows) + 1, sizeof(host_port_t))
        if not doors_init(&doors, len(rows)) or table == NULL:
            free(table)
            free(doors.row)
            raise MemoryError(f"no memory for {len(rows)} host ports")
        for i, (family, ip, proto, port, pod_ip, pod_port, network, length, mark) in enumerate(rows):
            table[i].pod.ip, table[i].pod.port, table[i].pod.family = pod_ip, pod_port, family
            table[i].masqueraded, table[i].mark = make_prefix(family, network, length), mark
            door = make_door(DOOR_HOST_PORT, ip, proto, port, family)
            door.first = i
            doors_add(&self.table, &doors, door)
        free(self.table.host_doors.row)
        free(self.table.host_port)
        self.table.host_doors, self.table.host_port = doors, table
        self.table.changes += 1
