/* Addresses from text and back, exactly as Python's `ipaddress` has them: RFC 4291 section 2.2 with an embedded IPv4
 * address as the last 32 bits, octets without leading zeros; written as RFC 5952 asks. A scope is refused: it belongs to
 * an interface, not to a route.
 *
 * No variant reads a byte outside its text. */
#ifndef KF_ADDRESS_TEXT_H
#define KF_ADDRESS_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "isa.h"

enum { KF_IPV4_TEXT = 15, KF_IPV6_TEXT = 45 };      /* longest texts: of 255.255.255.255, of an embedded one */

static inline uint64_t kf_text64(const char *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

static inline uint32_t kf_text32(const char *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

/* Eight octets as a number. */
static inline uint64_t kf_text_half(const uint8_t *octets)
{
    int i;
    uint64_t v = 0;
    for (i = 0; i < 8; i++)
        v = v << 8 | octets[i];
    return v;
}

/* Bytes before the NULs that fill a field up. */
static inline size_t kf_text_length(const char *text, size_t width)
{
    while (width >= 8) {
        uint64_t v = kf_text64(text + width - 8);
        if (v)
            return width - (size_t)__builtin_clzll(v) / 8;
        width -= 8;
    }
    while (width && !text[width - 1])
        width--;
    return width;
}

/* 1: an address, in host order. */
static inline int kf_text_ipv4_scalar(const char *text, size_t len, uint32_t *address)
{
    const char *end = text + len;
    uint32_t result = 0;
    int octet, digits;
    for (octet = 0; octet < 4; octet++) {
        uint32_t value = 0;
        if (octet && (text == end || *text++ != '.'))
            return 0;
        for (digits = 0; digits < 4 && text < end && (uint8_t)(*text - '0') < 10; digits++)
            value = 10 * value + (uint8_t)(*text++ - '0');
        if (digits == 0 || value > 255 || digits != 1 + (value > 9) + (value > 99))
            return 0;
        result = result << 8 | value;
    }
    *address = result;
    return text == end;
}

/* One more than the value of a hexadecimal digit, 0 for any other octet. */
static const uint8_t kf_hex_digit[256] = {
    ['0'] = 1, ['1'] = 2, ['2'] = 3, ['3'] = 4, ['4'] = 5, ['5'] = 6, ['6'] = 7, ['7'] = 8,
    ['8'] = 9, ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
    ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
};

/* 1: an address, of 16 octets. */
static inline int kf_text_ipv6_scalar(const char *text, size_t len, uint8_t *octets)
{
    uint16_t group[8];
    size_t i = 0, start;
    int n = 0, gap = -1, g;
    uint32_t value, digit, ipv4;
    if (len < 2 || len > KF_IPV6_TEXT)
        return 0;
    if (text[0] == ':') {
        if (text[1] != ':')
            return 0;
        gap = 0;
        i = 2;
    }
    while (i < len) {
        for (start = i, value = 0; i < len && (digit = kf_hex_digit[(uint8_t)text[i]]) != 0; i++)
            value = value << 4 | (digit - 1);
        if (i < len && text[i] == '.') {
            if (n > 6 || !kf_text_ipv4_scalar(text + start, len - start, &ipv4))
                return 0;
            group[n++] = (uint16_t)(ipv4 >> 16);
            group[n++] = (uint16_t)ipv4;
            break;
        }
        if (i == start || i > start + 4 || n == 8)
            return 0;
        group[n++] = (uint16_t)value;
        if (i == len)
            break;
        if (text[i++] != ':' || i == len)
            return 0;
        if (text[i] == ':') {
            if (gap >= 0)
                return 0;
            gap = n;
            i++;
        }
    }
    if (gap < 0 ? n != 8 : n > 7)
        return 0;
    memset(octets, 0, 16);
    for (g = 0; g < n; g++) {
        int at = 2 * (gap >= 0 && g >= gap ? g + 8 - n : g);
        octets[at] = (uint8_t)(group[g] >> 8);
        octets[at + 1] = (uint8_t)group[g];
    }
    return 1;
}

#if KF_X86
#include <immintrin.h>

/* For the lengths 1..3 of four octets: where their digits belong, right-aligned in 32 bits each; their least values. */
typedef struct {
    uint8_t place[16];
    int32_t least[4];
} kf_octets;

static kf_octets kf_octets_of[81];

static inline void kf_text_prepare(void)
{
    static const int32_t least[3] = {0, 10, 100};
    int index, octet, digit;
    for (index = 0; index < 81; index++) {
        int length[4] = {index / 27, index / 9 % 3, index / 3 % 3, index % 3}, at = 0;
        for (octet = 0; octet < 4; octet++) {
            for (digit = 0; digit < 4; digit++)
                kf_octets_of[index].place[4 * octet + digit] =
                    (uint8_t)(digit < 3 - length[octet] ? 0x80 : at + digit - (3 - length[octet]));
            at += length[octet] + 2;
            kf_octets_of[index].least[octet] = least[length[octet]];
        }
    }
}

/* All digits of four octets at once. */
KF_TARGET_AVX2 static inline int kf_text_ipv4_avx2(const char *text, size_t len, uint32_t *address)
{
    const __m128i nine = _mm_set1_epi8(9);
    __m128i chars, value, least;
    uint32_t dots, first, second, third;
    if (len - 7 > KF_IPV4_TEXT - 7)
        return 0;
    if (len == 7)
        chars = _mm_set_epi64x(0, (int64_t)(kf_text32(text) | (uint64_t)kf_text32(text + 3) << 24));
    else
        chars = _mm_set_epi64x((int64_t)(kf_text64(text + len - 8) >> (8 * (16 - len) & 63)) & -(int64_t)(len > 8),
                               (int64_t)kf_text64(text));
    dots = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(chars, _mm_set1_epi8('.')));
    if (__builtin_popcount(dots) != 3)
        return 0;
    first = (uint32_t)__builtin_ctz(dots);
    dots &= dots - 1;
    second = (uint32_t)__builtin_ctz(dots);
    third = (uint32_t)__builtin_ctz(dots & (dots - 1));
    {
        uint32_t a = first - 1, b = second - first - 2, c = third - second - 2, d = (uint32_t)len - third - 2;
        const kf_octets *octets;
        if (a > 2 || b > 2 || c > 2 || d > 2)
            return 0;
        octets = &kf_octets_of[27 * a + 9 * b + 3 * c + d];
        least = _mm_loadu_si128((const __m128i *)octets->least);
        value = _mm_shuffle_epi8(_mm_sub_epi8(chars, _mm_set1_epi8('0')),
                                 _mm_loadu_si128((const __m128i *)octets->place));
    }
    if (_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_max_epu8(value, nine), nine)) != 0xFFFF)
        return 0;
    value = _mm_maddubs_epi16(value, _mm_set1_epi32(0x010A6400));      /* 0, 100, 10, 1 */
    value = _mm_madd_epi16(value, _mm_set1_epi16(1));
    if (_mm_movemask_epi8(_mm_or_si128(_mm_cmpgt_epi32(value, _mm_set1_epi32(255)), _mm_cmpgt_epi32(least, value))))
        return 0;
    *address = (uint32_t)_mm_cvtsi128_si32(_mm_shuffle_epi8(value, _mm_set1_epi32(0x0004080C)));
    return 1;
}

/* Digits are compressed, then expanded to four places a group: bit masks say where colons leave them. */
KF_TARGET_AVX512 static inline int kf_text_ipv6_avx512(const char *text, size_t len, uint8_t *octets)
{
    uint64_t all, colon, digit, two, end, ones, gap;
    uint32_t n, before, places;
    __m512i chars, number, letter;
    __mmask64 is_number, is_letter;
    __m256i nibbles;
    if (len < 2 || len > KF_IPV6_TEXT)
        return 0;
    all = (1ull << len) - 1;
    chars = _mm512_maskz_loadu_epi8(all, text);
    colon = _mm512_cmpeq_epi8_mask(chars, _mm512_set1_epi8(':'));
    number = _mm512_sub_epi8(chars, _mm512_set1_epi8('0'));
    letter = _mm512_sub_epi8(_mm512_or_si512(chars, _mm512_set1_epi8(32)), _mm512_set1_epi8('a'));
    is_number = _mm512_cmplt_epu8_mask(number, _mm512_set1_epi8(10));
    is_letter = _mm512_cmplt_epu8_mask(letter, _mm512_set1_epi8(6));
    digit = (is_number | is_letter) & all;
    if ((digit | colon) != all)
        return _mm512_cmpeq_epi8_mask(chars, _mm512_set1_epi8('.')) ? kf_text_ipv6_scalar(text, len, octets) : 0;
    two = colon & colon >> 1;
    end = digit & ~(digit >> 1);
    n = (uint32_t)__builtin_popcountll(end);
    if (digit & digit >> 1 & digit >> 2 & digit >> 3 & digit >> 4)
        return 0;
    if ((colon & 1 & ~two) | (colon >> (len - 1) & ~(two >> (len - 2)) & 1) | (two & (two - 1)))
        return 0;
    if (two ? n > 7 : n != 8)
        return 0;
    ones = digit << 1;
    places = _pdep_u32((1u << n) - 1, 0x88888888u) | _pdep_u32((uint32_t)_pext_u64(ones, end), 0x44444444u);
    ones &= digit << 2;
    places |= _pdep_u32((uint32_t)_pext_u64(ones, end), 0x22222222u);
    ones &= digit << 3;
    places |= _pdep_u32((uint32_t)_pext_u64(ones, end), 0x11111111u);
    gap = two ? two - 1 : ~0ull;
    before = 4 * (uint32_t)__builtin_popcountll(end & gap);
    if (two)        /* groups behind the gap go to the end */
        places = (uint32_t)((places & ((1ull << before) - 1)) | (uint64_t)places >> before << (before + 4 * (8 - n)));
    number = _mm512_mask_add_epi8(number, is_letter, letter, _mm512_set1_epi8(10));
    nibbles = _mm256_maskz_expand_epi8(places, _mm512_castsi512_si256(_mm512_maskz_compress_epi8(digit, number)));
    nibbles = _mm256_maddubs_epi16(nibbles, _mm256_set1_epi16(0x0110));     /* 16, 1 */
    _mm_storeu_si128((__m128i *)octets, _mm256_cvtepi16_epi8(nibbles));
    return 1;
}
#else
static inline void kf_text_prepare(void) {}
#endif

/* By the best variant that may be used. */
static inline int kf_text_ipv4(int isa, const char *text, size_t len, uint32_t *address)
{
#if KF_X86
    if (isa >= KF_AVX2)
        return kf_text_ipv4_avx2(text, len, address);
#endif
    (void)isa;
    return kf_text_ipv4_scalar(text, len, address);
}

static inline int kf_text_ipv6(int isa, const char *text, size_t len, uint8_t *octets)
{
#if KF_X86
    if (isa >= KF_AVX512)
        return kf_text_ipv6_avx512(text, len, octets);
#endif
    (void)isa;
    return kf_text_ipv6_scalar(text, len, octets);
}

/* A prefix ADDRESS[/LENGTH]; its length, or -1. Netmasks are left to others. */
static inline int kf_text_length_of(const char *text, size_t len, int bits, size_t *address)
{
    const char *slash = (const char *)memchr(text, '/', len);
    size_t i;
    uint32_t value = 0;
    *address = len;
    if (!slash)
        return bits;
    *address = (size_t)(slash - text);
    if (*address + 1 == len)
        return -1;
    for (i = *address + 1; i < len; i++) {
        if ((uint8_t)(text[i] - '0') > 9)
            return -1;
        value = 10 * value + (uint8_t)(text[i] - '0');
        if (value > (uint32_t)bits)
            return -1;
    }
    return (int)value;
}

/* Write an address; its length. There is room for 15 or 39. */
static inline size_t kf_ipv4_text(uint32_t address, char *text)
{
    char *p = text;
    int shift;
    for (shift = 24; shift >= 0; shift -= 8) {
        uint32_t octet = address >> shift & 255;
        if (octet > 99)
            *p++ = (char)('0' + octet / 100);
        if (octet > 9)
            *p++ = (char)('0' + octet / 10 % 10);
        *p++ = (char)('0' + octet % 10);
        *p++ = '.';
    }
    return (size_t)(p - text) - 1;
}

/* RFC 5952: the first of the longest runs of two or more zero groups becomes `::`. */
static inline size_t kf_ipv6_text(const uint8_t *octets, char *text)
{
    static const char digits[] = "0123456789abcdef";
    char *p = text;
    int i, run = 0, gap = 8, most = 1;
    for (i = 0; i < 8; i++) {
        run = octets[2 * i] | octets[2 * i + 1] ? 0 : run + 1;
        if (run > most) {
            most = run;
            gap = i + 1 - run;
        }
    }
    for (i = 0; i < 8; i++) {
        uint32_t group = (uint32_t)octets[2 * i] << 8 | octets[2 * i + 1];
        int shift = group > 0xFFF ? 12 : group > 0xFF ? 8 : group > 0xF ? 4 : 0;
        if (i == gap) {
            *p++ = ':';
            if (i + most == 8)
                *p++ = ':';
            i += most - 1;
            continue;
        }
        if (i)
            *p++ = ':';
        for (; shift >= 0; shift -= 4)
            *p++ = digits[group >> shift & 15];
    }
    return (size_t)(p - text);
}

#endif
