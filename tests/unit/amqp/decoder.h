/* decoder.h: bytes of the wire taken apart by rabbitmq-c itself. */
#ifndef SAGAPOST_TESTS_AMQP_DECODER_H
#define SAGAPOST_TESTS_AMQP_DECODER_H

#include "outbox/amqp/compat.h"
#include "tests/unit/amqp/cmocka_with.h"

struct decoder {
    amqp_connection_state_t connection;
    const uint8_t *bytes;
    size_t count;
};

static inline void decoder_init(struct decoder *decoder, const void *bytes, size_t count,
                                int frame_max)
{
    amqp_bytes_t hello = {8, (char[]){'A', 'M', 'Q', 'P', 0, 0, 9, 1}};
    amqp_frame_t frame;

    *decoder = (struct decoder){amqp_new_connection(), bytes, count};
    assert_non_null(decoder->connection);
    /* A connection begins in a state that expects the peer's protocol header. */
    assert_int_equal(amqp_handle_input(decoder->connection, hello, &frame), 8);
    assert_int_equal(amqp_tune_connection(decoder->connection, 0, frame_max, 0), 0);
}

/* False at the end of the bytes. */
static inline bool decoder_next(struct decoder *decoder, amqp_frame_t *ret_frame)
{
    union {
        const uint8_t *given;
        void *bytes;
    } at = {.given = decoder->bytes};
    amqp_bytes_t input = {decoder->count, at.bytes};
    int taken;

    if (!decoder->count)
        return false;
    taken = amqp_handle_input(decoder->connection, input, ret_frame);
    assert_true(taken > 0);
    decoder->bytes += taken;
    decoder->count -= (size_t)taken;
    /* Only whole frames are ever written. */
    assert_int_not_equal(ret_frame->frame_type, 0);
    return true;
}

static inline void decoder_free(struct decoder *decoder)
{
    amqp_destroy_connection(decoder->connection);
}

#endif
