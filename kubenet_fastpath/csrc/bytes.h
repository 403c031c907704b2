/* Fields of a frame: network byte order in memory, host order in registers, no alignment assumed. */
#ifndef KF_BYTES_H
#define KF_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint16_t kf_load16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }

static inline uint32_t kf_load32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* A MAC address as an integer below 2^48, first octet highest. */
static inline uint64_t kf_load_mac(const uint8_t *p)
{
    return (uint64_t)kf_load16(p) << 32 | kf_load32(p + 2);
}

static inline void kf_store16(uint8_t *p, uint16_t v) { p[0] = (uint8_t)(v >> 8); p[1] = (uint8_t)v; }

static inline void kf_store32(uint8_t *p, uint32_t v)
{
    kf_store16(p, (uint16_t)(v >> 16));
    kf_store16(p + 2, (uint16_t)v);
}

static inline void kf_store64(uint8_t *p, uint64_t v)
{
    kf_store32(p, (uint32_t)(v >> 32));
    kf_store32(p + 4, (uint32_t)v);
}

static inline void kf_store_mac(uint8_t *p, uint64_t mac)
{
    kf_store16(p, (uint16_t)(mac >> 32));
    kf_store32(p + 2, (uint32_t)mac);
}

#endif
