/* params.h: the parameters of one statement, in binary, in memory that is used again.
 *
 *     pg_params_reset(&params);
 *     pg_params_int8(&params, share);
 *     pg_params_array_begin(&params, PG_TYPE_UUID);
 *         pg_params_item_uuid(&params, &id); ...
 *     pg_params_array_end(&params);
 *
 * Order is $1, $2, ... Growth has a limit (64 MiB) and a sticky failure that pg_session_send
 * reports. An array may be empty. A statement gets parameters of the same types each time, since
 * it is prepared with those of its first use. */
#ifndef SAGAPOST_PG_PARAMS_H
#define SAGAPOST_PG_PARAMS_H

#include "outbox/runtime/buffer.h"
#include "outbox/runtime/uuid.h"

#define PG_PARAMS_MAX 48

/* OIDs of built-in types (pg_type.dat); they never change. */
enum pg_type {
    PG_TYPE_BOOL = 16,
    PG_TYPE_BYTEA = 17,
    PG_TYPE_INT8 = 20,
    PG_TYPE_INT2 = 21,
    PG_TYPE_INT4 = 23,
    PG_TYPE_TEXT = 25,
    PG_TYPE_JSON = 114,
    PG_TYPE_FLOAT8 = 701,
    PG_TYPE_TIMESTAMPTZ = 1184,
    PG_TYPE_UUID = 2950,
    PG_TYPE_JSONB = 3802,
};

struct pg_params {
    struct buffer bytes;
    int count;
    unsigned types[PG_PARAMS_MAX];
    size_t offsets[PG_PARAMS_MAX];
    int lengths[PG_PARAMS_MAX]; /* -1: NULL */
    int formats[PG_PARAMS_MAX];
    bool array_open;
    bool array_nulls; /* of the open array */
    enum pg_type array_item_type;
    int array_items;
};

void pg_params_init(struct pg_params *params);
void pg_params_free(struct pg_params *params);
void pg_params_reset(struct pg_params *params);

void pg_params_null(struct pg_params *params, enum pg_type type);
void pg_params_null_array(struct pg_params *params, enum pg_type item_type);
void pg_params_bool(struct pg_params *params, bool value);
void pg_params_int4(struct pg_params *params, int32_t value);
void pg_params_int8(struct pg_params *params, int64_t value);
void pg_params_float8(struct pg_params *params, double value);
void pg_params_time_us(struct pg_params *params, int64_t unix_us);
void pg_params_uuid(struct pg_params *params, const struct uuid *value);
void pg_params_text(struct pg_params *params, const char *text); /* NULL: SQL NULL */
void pg_params_bytes(struct pg_params *params, enum pg_type type, const void *bytes,
                     size_t count); /* TEXT, JSON, JSONB (text given), BYTEA */
/* In text format, its type left to the server: for pg_snapshot, xid8 and other types without a line
 * above. NULL: SQL NULL. */
void pg_params_untyped(struct pg_params *params, const char *text);

void pg_params_array_begin(struct pg_params *params, enum pg_type item_type);
void pg_params_item_null(struct pg_params *params);
void pg_params_item_bool(struct pg_params *params, bool value);
void pg_params_item_int4(struct pg_params *params, int32_t value);
void pg_params_item_int8(struct pg_params *params, int64_t value);
void pg_params_item_time_us(struct pg_params *params, int64_t unix_us);
void pg_params_item_uuid(struct pg_params *params, const struct uuid *value);
void pg_params_item_bytes(struct pg_params *params, const void *bytes,
                          size_t count); /* text, json, jsonb, bytea by the array's type */
void pg_params_item_text(struct pg_params *params, const char *text); /* NULL: SQL NULL */
void pg_params_array_end(struct pg_params *params);

/* For this folder: where each value is (NULL: SQL NULL), as libpq wants it, good until the next
 * change of `params` (which may be NULL). ERROR_LIMIT: the sticky failure. */
int pg_params_values(const struct pg_params *params, const char *values[PG_PARAMS_MAX],
                     struct error *error) MUST_CHECK;

#endif
