"""What a packet meets on its way, noted stage by stage: for people who ask, and free of charge for all others.

A node whose recorder is NULL notes nothing: each stage tests one pointer. The notes are the real pipeline's own, so
they cannot disagree with what it does.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t

cdef enum:                      # bytes of a packet, from its network header, that a note keeps
    HEAD = 80

cdef enum:                      # stage_t; `explanation.STAGES` has the names
    STAGE_RECEIVE = 0           # value: the port
    STAGE_REASSEMBLY = 1
    STAGE_CONNTRACK = 2
    STAGE_SERVICE = 3           # value: the endpoint's address
    STAGE_DESTINATION_NAT = 4
    STAGE_BRIDGE = 5            # value: the FDB's port, or FDB_UNKNOWN, FDB_LOCAL
    STAGE_ROUTE = 6             # value: index of the next hop, NO_HOP
    STAGE_INPUT = 7
    STAGE_FORWARD = 8
    STAGE_OUTPUT = 9            # a packet of the node's own begins
    STAGE_SOURCE_NAT = 10
    STAGE_CONFIRM = 11
    STAGE_POSTROUTING = 12      # value: the interface
    STAGE_NEIGHBOUR = 13        # value: the next hop's address
    STAGE_DUPLICATE = 14        # ebtables drops it
    STAGE_EMIT = 15             # value: the port
    STAGE_VERDICT = 16

cdef struct note_t:             # a row of recorder.NOTE
    int64_t time                # ns
    int32_t source              # the packet that caused it, index in the batch; -1: a timer
    int32_t fate                # PASS, or the fate here
    uint32_t conn
    uint32_t value
    uint32_t mark
    uint32_t eth_type
    uint16_t dev
    uint8_t stage
    uint8_t info                # ctinfo_t
    uint8_t ours                # made by the node
    uint8_t length              # bytes of `head`
    uint8_t macs[12]
    uint8_t head[HEAD]
    uint8_t fill[2]
    uint32_t took               # ns since the note before was finished, 0 without a stopwatch

cdef struct recorder_t:
    note_t* note
    size_t n
    size_t capacity
    bint timed                  # a stopwatch runs: the one clock that a kernel reads, and nothing depends on it
    int64_t left                # ns, when the latest note was finished

cdef note_t* recorder_next(recorder_t* recorder) noexcept nogil
cdef void recorder_start(recorder_t* recorder, bint timed) noexcept nogil
cdef int64_t stopwatch() noexcept nogil
cdef object recorder_rows(const recorder_t* recorder)
