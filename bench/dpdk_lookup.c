/* DPDK's longest-prefix libraries and its hash behind one interface each, for route.py and state.py, which compile and
 * load this.
 *
 * Kinds: 0 rte_fib DIR24-8, 1 rte_lpm, 2 rte_fib6 TRIE, 3 rte_lpm6. Next hops come as each library gives them:
 * uint64 of rte_fib and rte_fib6, uint32 of rte_lpm (with flag bits above bit 23), int32 of rte_lpm6.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <rte_eal.h>
#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_lpm.h>
#include <rte_lpm6.h>
#include <rte_malloc.h>

enum { FIB, LPM, FIB6, LPM6, HUGE = 1 << 21 };

struct peer {
	int kind;
	union {
		struct rte_fib *fib;
		struct rte_lpm *lpm;
		struct rte_fib6 *fib6;
		struct rte_lpm6 *lpm6;
	};
};

static int socket_of_heap; /* DPDK gives memory of one's own the number of a socket that is none */

static int give_memory(size_t bytes)
{
	size_t pages = bytes / HUGE;
	rte_iova_t *iova = malloc(pages * sizeof *iova);
	char *memory = mmap(NULL, bytes + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!iova || memory == MAP_FAILED)
		return -1;
	memory += HUGE - (uintptr_t)memory % HUGE;
	madvise(memory, bytes, MADV_HUGEPAGE);
	for (size_t i = 0; i < pages; i++)
		iova[i] = (uintptr_t)memory + i * HUGE;
	int wrong = rte_malloc_heap_create("bench") ||
		    rte_malloc_heap_memory_add("bench", memory, bytes, iova, (unsigned)pages, HUGE);
	free(iova);
	socket_of_heap = rte_malloc_heap_get_socket("bench");
	return wrong;
}

/* Set DPDK up, once a process. Its own --no-huge memory lies on 4 KiB pages, a handicap that its users do not have, and
 * hugetlbfs takes root: so it gets memory of `bytes`, a multiple of 2 MiB, that the kernel may back with huge pages. */
int peer_init(int argc, char **argv, size_t bytes)
{
	return rte_eal_init(argc, argv) < 0 ? -1 : give_memory(bytes);
}

struct peer *peer_new(int kind, int hop_bytes, uint32_t routes, uint32_t groups, uint32_t miss)
{
	static unsigned number;
	char name[24];
	struct peer *peer = calloc(1, sizeof *peer);
	if (!peer)
		return NULL;
	snprintf(name, sizeof name, "peer%u", number++);
	peer->kind = kind;
	if (kind == FIB) {
		struct rte_fib_conf conf = { .type = RTE_FIB_DIR24_8, .default_nh = miss, .max_routes = (int)routes };
		conf.dir24_8.nh_sz = hop_bytes == 2 ? RTE_FIB_DIR24_8_2B : RTE_FIB_DIR24_8_4B;
		conf.dir24_8.num_tbl8 = groups;
		peer->fib = rte_fib_create(name, socket_of_heap, &conf);
	} else if (kind == FIB6) {
		struct rte_fib6_conf conf = { .type = RTE_FIB6_TRIE, .default_nh = miss, .max_routes = (int)routes };
		conf.trie.nh_sz = hop_bytes == 2 ? RTE_FIB6_TRIE_2B : RTE_FIB6_TRIE_4B;
		conf.trie.num_tbl8 = groups;
		peer->fib6 = rte_fib6_create(name, socket_of_heap, &conf);
	} else if (kind == LPM) {
		struct rte_lpm_config conf = { .max_rules = routes, .number_tbl8s = groups };
		peer->lpm = rte_lpm_create(name, socket_of_heap, &conf);
	} else {
		struct rte_lpm6_config conf = { .max_rules = routes, .number_tbl8s = groups };
		peer->lpm6 = rte_lpm6_create(name, socket_of_heap, &conf);
	}
	if (!peer->fib) {
		free(peer);
		return NULL;
	}
	return peer;
}

/* The number of prefixes that went in; less than n where one was refused. IPv4 in host order, IPv6 in network order. */
size_t peer_add(struct peer *peer, const void *networks, const uint8_t *lens, const uint32_t *hops, size_t n)
{
	const uint32_t *v4 = networks;
	size_t i;
	for (i = 0; i < n; i++) {
		uint8_t v6[16];
		int wrong;
		if (peer->kind == FIB6 || peer->kind == LPM6)
			__builtin_memcpy(v6, (const uint8_t *)networks + 16 * i, 16);
		switch (peer->kind) {
		case FIB: wrong = rte_fib_add(peer->fib, v4[i], lens[i], hops[i]); break;
		case LPM: wrong = rte_lpm_add(peer->lpm, v4[i], lens[i], hops[i]); break;
		case FIB6: wrong = rte_fib6_add(peer->fib6, v6, lens[i], hops[i]); break;
		default: wrong = rte_lpm6_add(peer->lpm6, v6, lens[i], hops[i]);
		}
		if (wrong)
			break;
	}
	return i;
}

/* Whether the library has this variant here. */
int peer_select(struct peer *peer, int vector)
{
	if (peer->kind == FIB)
		return rte_fib_select_lookup(peer->fib, vector ? RTE_FIB_LOOKUP_DIR24_8_VECTOR_AVX512
							       : RTE_FIB_LOOKUP_DIR24_8_SCALAR_MACRO) == 0;
	if (peer->kind == FIB6)
		return rte_fib6_select_lookup(peer->fib6, vector ? RTE_FIB6_LOOKUP_TRIE_VECTOR_AVX512
								 : RTE_FIB6_LOOKUP_TRIE_SCALAR) == 0;
	return !vector;
}

static inline void lookup(struct peer *peer, void *keys, void *out, unsigned n)
{
	switch (peer->kind) {
	case FIB: rte_fib_lookup_bulk(peer->fib, keys, out, (int)n); break;
	case LPM: rte_lpm_lookup_bulk(peer->lpm, (const uint32_t *)keys, (uint32_t *)out, n); break;
	case FIB6: rte_fib6_lookup_bulk(peer->fib6, keys, out, (int)n); break;
	default: rte_lpm6_lookup_bulk_func(peer->lpm6, keys, out, n);
	}
}

/* Look up n keys in calls of `batch`; each call's next hops begin `stride` bytes behind the last one's, 0 for the same
 * place, as an application does that consumes them at once. */
void peer_lookup(struct peer *peer, uint8_t *keys, uint8_t *out, size_t n, size_t batch, size_t stride)
{
	size_t width = peer->kind == FIB || peer->kind == LPM ? 4 : 16;
	for (size_t i = 0; i < n; i += batch, out += stride)
		lookup(peer, keys + i * width, out, (unsigned)(n - i < batch ? n - i : batch));
}

/* rte_hash, with keys that each have a number. */
struct rte_hash *hash_new(uint32_t key_bytes, uint32_t entries)
{
	static unsigned number;
	char name[24];
	struct rte_hash_parameters wanted = { .name = name, .entries = entries, .key_len = key_bytes,
					      .hash_func = rte_hash_crc, .socket_id = socket_of_heap };
	snprintf(name, sizeof name, "hash%u", number++);
	return rte_hash_create(&wanted);
}

void hash_free(struct rte_hash *hash) { rte_hash_free(hash); }

/* Key i is given the number i; how many went in. */
size_t hash_add(struct rte_hash *hash, const uint8_t *keys, size_t key_bytes, size_t n)
{
	size_t i;
	for (i = 0; i < n; i++)
		if (rte_hash_add_key_data(hash, keys + i * key_bytes, (void *)i))
			break;
	return i;
}

/* The numbers of n keys, UINT32_MAX for unknown ones, by bulk lookups of 64: its most. */
void hash_lookup(struct rte_hash *hash, const uint8_t *keys, size_t key_bytes, uint32_t *out, size_t n)
{
	for (size_t i = 0; i < n; i += RTE_HASH_LOOKUP_BULK_MAX) {
		const void *key[RTE_HASH_LOOKUP_BULK_MAX];
		void *data[RTE_HASH_LOOKUP_BULK_MAX];
		uint64_t hits = 0;
		uint32_t m = n - i < RTE_HASH_LOOKUP_BULK_MAX ? (uint32_t)(n - i) : RTE_HASH_LOOKUP_BULK_MAX;
		for (uint32_t k = 0; k < m; k++)
			key[k] = keys + (i + k) * key_bytes;
		rte_hash_lookup_bulk_data(hash, key, m, &hits, data);
		for (uint32_t k = 0; k < m; k++)
			out[i + k] = hits >> k & 1 ? (uint32_t)(uintptr_t)data[k] : UINT32_MAX;
	}
}
