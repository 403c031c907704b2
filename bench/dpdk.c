/* DPDK's longest-prefix tables behind one interface, for bench/dpdk.py: built with the compiler at hand, loaded by ctypes.
 *
 * Memory is the process's own (no hugetlbfs), with 2 MiB pages asked for as our tables ask for them; vectors of 512
 * bits are allowed. Lookups run over all keys in bursts. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <rte_eal.h>
#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_lpm.h>
#include <rte_lpm6.h>
#include <rte_memory.h>

static int ask_for_huge_pages(const struct rte_memseg_list *list, void *unused)
{
    (void)unused;
    madvise(list->base_va, list->len, MADV_HUGEPAGE);
    return 0;
}

int bench_start(const char *megabytes)
{
    char *arguments[] = {"bench", "--no-huge", "--no-pci", "--no-shconf", "--no-telemetry", "-l", "0", "-m",
                         (char *)megabytes, "--log-level=error", "--force-max-simd-bitwidth=512"};
    if (rte_eal_init(sizeof arguments / sizeof *arguments, arguments) < 0)
        return -1;
    return rte_memseg_list_walk(ask_for_huge_pages, NULL);
}

/* octets: of a next hop, 2 or 4; vector: by AVX-512. NULL where DPDK refuses. */
void *bench_fib(const uint32_t *network, const uint8_t *length, const uint32_t *hop, uint32_t n, int octets, int vector,
                uint32_t miss)
{
    struct rte_fib_conf conf = {.type = RTE_FIB_DIR24_8, .default_nh = miss, .max_routes = 2 * (int)n + 64};
    struct rte_fib *fib;
    char name[32];
    static int number;
    uint32_t i;
    conf.dir24_8.nh_sz = octets == 2 ? RTE_FIB_DIR24_8_2B : RTE_FIB_DIR24_8_4B;
    conf.dir24_8.num_tbl8 = octets == 2 ? 32767 : 1 << 16;
    snprintf(name, sizeof name, "fib%d", number++);
    fib = rte_fib_create(name, SOCKET_ID_ANY, &conf);
    for (i = 0; fib && i < n; i++)
        if (rte_fib_add(fib, network[i], length[i], hop[i]))
            return NULL;
    if (fib && rte_fib_select_lookup(fib, vector ? RTE_FIB_LOOKUP_DIR24_8_VECTOR_AVX512
                                                 : RTE_FIB_LOOKUP_DIR24_8_SCALAR_MACRO))
        return NULL;
    return fib;
}

void bench_fib_lookup(void *fib, const uint32_t *key, uint64_t *hop, uint32_t n, uint32_t burst)
{
    uint32_t i;
    for (i = 0; i < n; i += burst)
        rte_fib_lookup_bulk(fib, (uint32_t *)key + i, hop + i, n - i < burst ? n - i : burst);
}

void *bench_lpm(const uint32_t *network, const uint8_t *length, const uint32_t *hop, uint32_t n)
{
    struct rte_lpm_config conf = {.max_rules = n + 64, .number_tbl8s = 1 << 15};
    struct rte_lpm *lpm = rte_lpm_create("lpm", SOCKET_ID_ANY, &conf);
    uint32_t i;
    for (i = 0; lpm && i < n; i++)
        if (length[i] && rte_lpm_add(lpm, network[i], length[i], hop[i]))
            return NULL;
    return lpm;
}

void bench_lpm_lookup(void *lpm, const uint32_t *key, uint32_t *hop, uint32_t n, uint32_t burst)
{
    uint32_t i;
    for (i = 0; i < n; i += burst)
        rte_lpm_lookup_bulk(lpm, key + i, hop + i, n - i < burst ? n - i : burst);
}

void *bench_fib6(const uint8_t (*network)[16], const uint8_t *length, const uint32_t *hop, uint32_t n, int octets,
                 int vector, uint32_t miss)
{
    struct rte_fib6_conf conf = {.type = RTE_FIB6_TRIE, .default_nh = miss, .max_routes = 2 * (int)n + 64};
    struct rte_fib6 *fib;
    char name[32];
    static int number;
    uint32_t i;
    conf.trie.nh_sz = octets == 2 ? RTE_FIB6_TRIE_2B : RTE_FIB6_TRIE_4B;
    conf.trie.num_tbl8 = octets == 2 ? 32767 : 1 << 19;
    snprintf(name, sizeof name, "fib6-%d", number++);
    fib = rte_fib6_create(name, SOCKET_ID_ANY, &conf);
    for (i = 0; fib && i < n; i++)
        if (rte_fib6_add(fib, network[i], length[i], hop[i]))
            return NULL;
    if (fib && rte_fib6_select_lookup(fib, vector ? RTE_FIB6_LOOKUP_TRIE_VECTOR_AVX512 : RTE_FIB6_LOOKUP_TRIE_SCALAR))
        return NULL;
    return fib;
}

void bench_fib6_lookup(void *fib, const uint8_t (*key)[16], uint64_t *hop, uint32_t n, uint32_t burst)
{
    uint32_t i;
    for (i = 0; i < n; i += burst)
        rte_fib6_lookup_bulk(fib, (uint8_t(*)[16])key + i, hop + i, (int)(n - i < burst ? n - i : burst));
}

void *bench_lpm6(const uint8_t (*network)[16], const uint8_t *length, const uint32_t *hop, uint32_t n)
{
    struct rte_lpm6_config conf = {.max_rules = n + 64, .number_tbl8s = 1 << 17};
    struct rte_lpm6 *lpm = rte_lpm6_create("lpm6", SOCKET_ID_ANY, &conf);
    uint32_t i;
    for (i = 0; lpm && i < n; i++)
        if (length[i] && rte_lpm6_add(lpm, network[i], length[i], hop[i]))
            return NULL;
    return lpm;
}

void bench_lpm6_lookup(void *lpm, const uint8_t (*key)[16], int32_t *hop, uint32_t n, uint32_t burst)
{
    uint32_t i;
    for (i = 0; i < n; i += burst)
        rte_lpm6_lookup_bulk_func(lpm, (uint8_t(*)[16])key + i, hop + i, n - i < burst ? n - i : burst);
}
