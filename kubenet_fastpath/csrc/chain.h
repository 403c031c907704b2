/* A hash table of chains that pass through the entries themselves: an entry begins with its link.
 * It doubles when entries outnumber chains. For tables that are small and change with every packet
 * (fragment queues); for the large ones see bucket.h. */
#ifndef KF_CHAIN_H
#define KF_CHAIN_H

#include <stdint.h>
#include <stdlib.h>

typedef struct kf_link {
    struct kf_link *next;
    uint64_t hash;
} kf_link;

typedef struct {
    kf_link **head;             /* mask + 1 of them */
    uint64_t mask;
    uint64_t used;
} kf_chains;

/* A power of two of chains. 0, or -1 without memory. */
static inline int kf_chains_init(kf_chains *c, uint64_t chains)
{
    c->head = (kf_link **)calloc(chains, sizeof(kf_link *));
    c->mask = chains - 1;
    c->used = 0;
    return c->head ? 0 : -1;
}

/* The entries are the caller's to free. */
static inline void kf_chains_free(kf_chains *c)
{
    free(c->head);
    c->head = NULL;
}

static inline kf_link *kf_chain(const kf_chains *c, uint64_t hash) { return c->head[hash & c->mask]; }

static inline void kf_chains_push(kf_chains *c, kf_link *entry)
{
    kf_link **head = &c->head[entry->hash & c->mask];
    entry->next = *head;
    *head = entry;
}

static inline void kf_chains_double(kf_chains *c)
{
    kf_chains wide;
    if (kf_chains_init(&wide, 2 * (c->mask + 1)))
        return;                 /* longer chains are slower, no more */
    for (uint64_t i = 0; i <= c->mask; i++)
        for (kf_link *entry = c->head[i], *next; entry; entry = next) {
            next = entry->next;
            kf_chains_push(&wide, entry);
        }
    wide.used = c->used;
    kf_chains_free(c);
    *c = wide;
}

static inline void kf_chains_insert(kf_chains *c, kf_link *entry, uint64_t hash)
{
    if (c->used++ > c->mask)
        kf_chains_double(c);
    entry->hash = hash;
    kf_chains_push(c, entry);
}

/* The entry is there. */
static inline void kf_chains_erase(kf_chains *c, kf_link *entry)
{
    kf_link **at = &c->head[entry->hash & c->mask];
    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    c->used--;
}

#endif
