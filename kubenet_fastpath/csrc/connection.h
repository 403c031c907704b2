/* A connection's row in memory. In C for the union: what one protocol remembers the others need not keep room for. */
#ifndef KF_CONNECTION_H
#define KF_CONNECTION_H

#include <stdint.h>
#include <string.h>

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
    uint8_t last_index : 3;     /* of the latest TCP segment that counted: kind, direction, seq ... */
    uint8_t last_dir : 1;
    uint8_t last_scale : 4;     /* of a SYN that was let through unproven; and its TCP_SIDE_* */
    uint8_t last_flags;
    uint8_t retrans;            /* how often the latest bare ACK has come */
    uint8_t side_flags[2];      /* TCP_SIDE_* of each end; the rest of what is known of it is in a tcp_side_t */
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
    uint8_t side_scale[2];      /* by which each end's windows are shifted */
} conn_t;

_Static_assert(sizeof(tuple_t) == 16 && sizeof(conn_t) == 128, "a row is two cache lines");

/* A tuple goes from memory to memory in the words that it was written in: of a wider load of what has just been written in
 * pieces a processor waits until these have left its store buffer. The empty statement keeps the compiler from making one. */
static inline void kf_tuple_words(const void *from, uint64_t word[2])
{
    uint64_t head, tail;
    memcpy(&head, from, 8);
    memcpy(&tail, (const char *)from + 8, 8);
    __asm__ volatile("" : "+r"(head), "+r"(tail));
    word[0] = head;
    word[1] = tail;
}

static inline void kf_tuple_copy(void *to, const void *from)
{
    uint64_t word[2];
    kf_tuple_words(from, word);
    memcpy(to, word, sizeof word);
}

/* The way back, of a protocol with ports: addresses change places, and so do ports. */
static inline void kf_tuple_inverse(tuple_t *inverse, const tuple_t *tuple)
{
    uint64_t word[2];
    kf_tuple_words(tuple, word);
    word[0] = word[0] << 32 | word[0] >> 32;
    word[1] = (word[1] & ~(uint64_t)0xFFFFFFFF) | (uint32_t)((uint32_t)word[1] << 16 | (uint32_t)word[1] >> 16);
    memcpy(inverse, word, sizeof word);
}

/* A tuple of a row, as the index names it: how many times 8 bytes behind the row before the first it lies. So a lookup has
 * its address by one addition; and 0 is a tuple too, of a row that never lives, for who has found none. */
enum { KF_REF_ROW = sizeof(conn_t) / 8, KF_REF_TUPLE = sizeof(tuple_t) / 8 };

static inline uint32_t kf_ref(uint32_t conn, uint32_t direction)
{
    return (conn + 1) * KF_REF_ROW + direction * KF_REF_TUPLE;
}

static inline uint32_t kf_ref_conn(uint32_t ref) { return ref / KF_REF_ROW - 1; }
static inline uint32_t kf_ref_direction(uint32_t ref) { return ref / KF_REF_TUPLE & 1; }

/* `row` is the first one, which has one before it. */
static inline conn_t *kf_ref_row(const conn_t *row, uint32_t ref)
{
    return (conn_t *)((char *)(row - 1) + (uint64_t)(ref & ~(uint32_t)(KF_REF_ROW - 1)) * 8);
}

static inline const tuple_t *kf_ref_tuple(const conn_t *row, uint32_t ref)
{
    return (const tuple_t *)((const char *)(row - 1) + (uint64_t)ref * 8);
}

#endif
