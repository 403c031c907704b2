/* Results that go past the caches.
 *
 * A column of results that the second-level cache could not hold anyway drives a table out of it, and each line of it is
 * read from memory before it is written. Both are saved where whole lines are stored around the caches: results are
 * made in a buffer that stays in the first one, and copied out from there.
 */
#ifndef KF_STREAM_H
#define KF_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "isa.h"

enum { KF_STREAM_LEAST = 1 << 18, KF_STREAM_LINE = 16 };    /* results of four bytes: 1 MiB, and a line */

#if KF_X86
#include <emmintrin.h>

/* Whether a call with so many results stores them past the caches. */
static inline int kf_streams(size_t n) { return n >= KF_STREAM_LEAST; }

/* Store results from an aligned buffer: whole lines past the caches if `out` is aligned to them, the rest as usual. */
static inline void kf_stream(uint32_t *out, const uint32_t *from, size_t n)
{
    size_t i = 0, j;
    if ((uintptr_t)out % 64 == 0)
        for (; n - i >= KF_STREAM_LINE; i += KF_STREAM_LINE)
#pragma GCC unroll 4
            for (j = i; j < i + KF_STREAM_LINE; j += 4)
                _mm_stream_si128((__m128i *)(void *)&out[j], _mm_load_si128((const __m128i *)(const void *)&from[j]));
    __builtin_memcpy(out + i, from + i, (n - i) * sizeof *out);
}

/* Behind the last one: whoever is told of the results sees them. */
static inline void kf_stream_end(void) { _mm_sfence(); }
#else
static inline int kf_streams(size_t n)
{
    (void)n;
    return 0;
}

static inline void kf_stream(uint32_t *out, const uint32_t *from, size_t n)
{
    __builtin_memcpy(out, from, n * sizeof *out);
}

static inline void kf_stream_end(void) {}
#endif

/* How many results lie before the first whole line. */
static inline size_t kf_stream_head(const uint32_t *out)
{
    return (0 - (uintptr_t)out / sizeof *out) % KF_STREAM_LINE;
}

#endif
