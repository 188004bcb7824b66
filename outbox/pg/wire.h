/* wire.h: what params.c writes and result.c reads of PostgreSQL's binary formats. */
#ifndef SAGAPOST_PG_WIRE_H
#define SAGAPOST_PG_WIRE_H

#include <stdint.h>

#define WIRE_JSONB_VERSION 1

/* Seconds from 1970 to 2000, where PostgreSQL's timestamps start (timestamp.h). */
#define WIRE_EPOCH_US (INT64_C(946684800) * 1000000)

static inline void wire_put_u32(uint8_t out[4], uint32_t value)
{
    out[0] = (uint8_t)(value >> 24);
    out[1] = (uint8_t)(value >> 16);
    out[2] = (uint8_t)(value >> 8);
    out[3] = (uint8_t)value;
}

static inline void wire_put_u64(uint8_t out[8], uint64_t value)
{
    wire_put_u32(out, (uint32_t)(value >> 32));
    wire_put_u32(out + 4, (uint32_t)value);
}

static inline uint16_t wire_u16(const uint8_t in[2])
{
    return (uint16_t)((in[0] << 8) | in[1]);
}

static inline uint32_t wire_u32(const uint8_t in[4])
{
    return ((uint32_t)in[0] << 24) | ((uint32_t)in[1] << 16) | ((uint32_t)in[2] << 8) | in[3];
}

static inline uint64_t wire_u64(const uint8_t in[8])
{
    return ((uint64_t)wire_u32(in) << 32) | wire_u32(in + 4);
}

/* INT64_MAX and INT64_MIN are 'infinity' and '-infinity' on both sides; what does not fit into the
 * other side becomes one of them. */
static inline int64_t wire_time_from_unix(int64_t unix_us)
{
    if (unix_us == INT64_MAX)
        return INT64_MAX;
    return unix_us < INT64_MIN + WIRE_EPOCH_US ? INT64_MIN : unix_us - WIRE_EPOCH_US;
}

static inline int64_t wire_time_to_unix(int64_t pg_us)
{
    if (pg_us == INT64_MIN)
        return INT64_MIN;
    return pg_us > INT64_MAX - WIRE_EPOCH_US ? INT64_MAX : pg_us + WIRE_EPOCH_US;
}

#endif
