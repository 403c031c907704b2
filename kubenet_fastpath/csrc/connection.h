/* A connection's row in memory. In C for the union: what one protocol remembers the others need not keep room for. */
#ifndef KF_CONNECTION_H
#define KF_CONNECTION_H

#include <stdint.h>

typedef struct {                /* 16 bytes, host order, no padding: compared and hashed as two words */
    uint32_t src;               /* of IPv6 a handle: see address_pool.pxd */
    uint32_t dst;
    uint16_t sport;             /* ICMP query: the identifier */
    uint16_t dport;             /* ICMP query: type << 8 | code */
    uint8_t proto;
    uint8_t family;             /* 4 or 6 */
    uint16_t zone;
} tuple_t;

typedef struct {                /* two cache lines; the first is all that finding and translating need */
    tuple_t original;
    tuple_t reply;              /* inverse of `original` after NAT */
    int64_t expires;            /* ns; the row is dead from this time on. Unconfirmed: ns from its confirmation */
    uint32_t status;
    uint32_t mark;
    uint32_t path[2];           /* where packets of each direction go: see fastpath.pxd; 0: not known */
    uint16_t masquerade;        /* interface index whose address masks the source + 1, 0: not masqueraded */
    uint8_t state;              /* of TCP, SCTP */
    uint8_t last_index;         /* of the latest TCP segment that counted: kind, direction, seq ... */
    uint8_t last_dir;
    uint8_t last_flags;         /* TCP_SIDE_* of a SYN that was let through unproven */
    uint8_t last_scale;
    uint8_t retrans;            /* how often the latest bare ACK has come */
    uint64_t packets[2];
    uint64_t bytes[2];
    int64_t created;            /* ns, time of confirmation */
    uint32_t by_source_next;    /* chain of connections with the same source; index + 1, 0: none */
    uint32_t by_source_prev;
    union {
        int64_t stream_after;   /* ns; UDP: a stream from then on */
        struct {
            uint32_t last_seq;
            uint32_t last_ack;
        };
    };
    uint32_t last_end;
    uint16_t last_win;
} conn_t;

_Static_assert(sizeof(tuple_t) == 16 && sizeof(conn_t) == 128, "a row is two cache lines");

#endif
