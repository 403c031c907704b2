/* CRC32c, the checksum of SCTP (RFC 9260, appendix A), four bits at a time. */
#ifndef KF_CRC32C_H
#define KF_CRC32C_H

#include <stddef.h>
#include <stdint.h>

static const uint32_t kf_crc32c_nibble[16] = {
    0x00000000, 0x105EC76F, 0x20BD8EDE, 0x30E349B1, 0x417B1DBC, 0x5125DAD3, 0x61C69362, 0x7198540D,
    0x82F63B78, 0x92A8FC17, 0xA24BB5A6, 0xB21572C9, 0xC38D26C4, 0xD3D3E1AB, 0xE330A81A, 0xF36E6F75,
};

/* Goes on from `crc`, which begins as 0xFFFFFFFF; the checksum is its complement, low byte first. */
static inline uint32_t kf_crc32c(uint32_t crc, const uint8_t *p, size_t n)
{
    while (n--) {
        crc ^= *p++;
        crc = crc >> 4 ^ kf_crc32c_nibble[crc & 15];
        crc = crc >> 4 ^ kf_crc32c_nibble[crc & 15];
    }
    return crc;
}

#endif
