/* params.c: PostgreSQL's binary formats, written. Source of each: the type's *recv function in
 * src/backend/utils/adt. All integers are big-endian. */
#include "outbox/pg/params.h"

#include "outbox/pg/wire.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define PARAMS_BYTES_MAX ((size_t)64 << 20)

/* array_recv: dimensions, has-null flag, item type, then length and lower bound of the only one. */
#define ARRAY_HEADER_BYTES 20

static unsigned array_type_of(enum pg_type item)
{
    switch (item) {
    case PG_TYPE_BOOL:
        return 1000;
    case PG_TYPE_BYTEA:
        return 1001;
    case PG_TYPE_INT8:
        return 1016;
    case PG_TYPE_INT2:
        return 1005;
    case PG_TYPE_INT4:
        return 1007;
    case PG_TYPE_TEXT:
        return 1009;
    case PG_TYPE_JSON:
        return 199;
    case PG_TYPE_FLOAT8:
        return 1022;
    case PG_TYPE_TIMESTAMPTZ:
        return 1185;
    case PG_TYPE_UUID:
        return 2951;
    case PG_TYPE_JSONB:
        return 3807;
    }
    abort(); /* not one of enum pg_type */
}

void pg_params_init(struct pg_params *params)
{
    *params = (struct pg_params){0};
    buffer_init(&params->bytes, PARAMS_BYTES_MAX);
}

void pg_params_free(struct pg_params *params)
{
    buffer_free(&params->bytes);
}

void pg_params_reset(struct pg_params *params)
{
    buffer_clear(&params->bytes);
    params->count = 0;
    params->array_open = false;
}

/* Values ------------------------------------------------------------------------------------- */

/* Opens the next parameter; its bytes follow, then value_end. */
static void value_begin(struct pg_params *params, unsigned type, int format)
{
    assert(params->count < PG_PARAMS_MAX);
    assert(!params->array_open);
    params->types[params->count] = type;
    params->formats[params->count] = format;
    params->offsets[params->count] = buffer_length(&params->bytes);
}

static void value_end(struct pg_params *params)
{
    size_t offset = params->offsets[params->count];
    size_t length = buffer_length(&params->bytes) - offset;
    assert(length <= PARAMS_BYTES_MAX);
    params->lengths[params->count++] = (int)length;
}

static void append_bool(struct buffer *out, bool value)
{
    buffer_append(out, &(uint8_t){value ? 1 : 0}, 1);
}

static void append_int4(struct buffer *out, int32_t value)
{
    uint8_t bytes[4];
    wire_put_u32(bytes, (uint32_t)value);
    buffer_append(out, bytes, sizeof(bytes));
}

static void append_int8(struct buffer *out, int64_t value)
{
    uint8_t bytes[8];
    wire_put_u64(bytes, (uint64_t)value);
    buffer_append(out, bytes, sizeof(bytes));
}

/* Bytes of a type whose binary form is its text, or, for jsonb, its text after a version byte. */
static void append_bytes(struct buffer *out, enum pg_type type, const void *bytes, size_t count)
{
    assert(type == PG_TYPE_TEXT || type == PG_TYPE_JSON || type == PG_TYPE_JSONB ||
           type == PG_TYPE_BYTEA);
    if (type == PG_TYPE_JSONB)
        buffer_append(out, &(uint8_t){WIRE_JSONB_VERSION}, 1);
    if (count > 0)
        buffer_append(out, bytes, count);
}

void pg_params_null(struct pg_params *params, enum pg_type type)
{
    value_begin(params, type, 1);
    params->lengths[params->count++] = -1;
}

void pg_params_null_array(struct pg_params *params, enum pg_type item_type)
{
    value_begin(params, array_type_of(item_type), 1);
    params->lengths[params->count++] = -1;
}

void pg_params_bool(struct pg_params *params, bool value)
{
    value_begin(params, PG_TYPE_BOOL, 1);
    append_bool(&params->bytes, value);
    value_end(params);
}

void pg_params_int4(struct pg_params *params, int32_t value)
{
    value_begin(params, PG_TYPE_INT4, 1);
    append_int4(&params->bytes, value);
    value_end(params);
}

void pg_params_int8(struct pg_params *params, int64_t value)
{
    value_begin(params, PG_TYPE_INT8, 1);
    append_int8(&params->bytes, value);
    value_end(params);
}

void pg_params_float8(struct pg_params *params, double value)
{
    int64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    value_begin(params, PG_TYPE_FLOAT8, 1);
    append_int8(&params->bytes, bits);
    value_end(params);
}

void pg_params_time_us(struct pg_params *params, int64_t unix_us)
{
    value_begin(params, PG_TYPE_TIMESTAMPTZ, 1);
    append_int8(&params->bytes, wire_time_from_unix(unix_us));
    value_end(params);
}

void pg_params_uuid(struct pg_params *params, const struct uuid *value)
{
    value_begin(params, PG_TYPE_UUID, 1);
    buffer_append(&params->bytes, value->bytes, sizeof(value->bytes));
    value_end(params);
}

void pg_params_text(struct pg_params *params, const char *text)
{
    if (text == NULL)
        pg_params_null(params, PG_TYPE_TEXT);
    else
        pg_params_bytes(params, PG_TYPE_TEXT, text, strlen(text));
}

void pg_params_bytes(struct pg_params *params, enum pg_type type, const void *bytes, size_t count)
{
    value_begin(params, type, 1);
    append_bytes(&params->bytes, type, bytes, count);
    value_end(params);
}

void pg_params_untyped(struct pg_params *params, const char *text)
{
    value_begin(params, 0, 0);
    if (text == NULL) {
        params->lengths[params->count++] = -1;
        return;
    }
    buffer_append(&params->bytes, text, strlen(text) + 1); /* libpq reads text up to its NUL */
    value_end(params);
}

/* Arrays ------------------------------------------------------------------------------------- */

void pg_params_array_begin(struct pg_params *params, enum pg_type item_type)
{
    value_begin(params, array_type_of(item_type), 1);
    params->array_open = true;
    params->array_item_type = item_type;
    params->array_items = 0;
    params->array_nulls = false;
    buffer_append(&params->bytes, (const uint8_t[ARRAY_HEADER_BYTES]){0}, ARRAY_HEADER_BYTES);
}

static void item_begin(struct pg_params *params, enum pg_type type, size_t bytes)
{
    assert(params->array_open && params->array_item_type == type);
    if (bytes > PARAMS_BYTES_MAX) {
        params->bytes.failed = true;
        return;
    }
    params->array_items++;
    append_int4(&params->bytes, (int32_t)bytes);
}

void pg_params_item_null(struct pg_params *params)
{
    assert(params->array_open);
    params->array_items++;
    params->array_nulls = true;
    append_int4(&params->bytes, -1);
}

void pg_params_item_bool(struct pg_params *params, bool value)
{
    item_begin(params, PG_TYPE_BOOL, 1);
    append_bool(&params->bytes, value);
}

void pg_params_item_int4(struct pg_params *params, int32_t value)
{
    item_begin(params, PG_TYPE_INT4, 4);
    append_int4(&params->bytes, value);
}

void pg_params_item_int8(struct pg_params *params, int64_t value)
{
    item_begin(params, PG_TYPE_INT8, 8);
    append_int8(&params->bytes, value);
}

void pg_params_item_time_us(struct pg_params *params, int64_t unix_us)
{
    item_begin(params, PG_TYPE_TIMESTAMPTZ, 8);
    append_int8(&params->bytes, wire_time_from_unix(unix_us));
}

void pg_params_item_uuid(struct pg_params *params, const struct uuid *value)
{
    item_begin(params, PG_TYPE_UUID, sizeof(value->bytes));
    buffer_append(&params->bytes, value->bytes, sizeof(value->bytes));
}

void pg_params_item_bytes(struct pg_params *params, const void *bytes, size_t count)
{
    enum pg_type type = params->array_item_type;
    item_begin(params, type, count + (type == PG_TYPE_JSONB ? 1 : 0));
    append_bytes(&params->bytes, type, bytes, count);
}

void pg_params_item_text(struct pg_params *params, const char *text)
{
    if (text == NULL)
        pg_params_item_null(params);
    else
        pg_params_item_bytes(params, text, strlen(text));
}

void pg_params_array_end(struct pg_params *params)
{
    assert(params->array_open);
    params->array_open = false;
    size_t offset = params->offsets[params->count];
    if (!params->bytes.failed) {
        uint8_t *header = params->bytes.bytes + params->bytes.start + offset;
        wire_put_u32(header, params->array_items > 0 ? 1 : 0);
        wire_put_u32(header + 4, params->array_nulls ? 1 : 0);
        wire_put_u32(header + 8, params->array_item_type);
        wire_put_u32(header + 12, (uint32_t)params->array_items);
        wire_put_u32(header + 16, 1); /* arrays start at 1 */
    }
    value_end(params);
    if (params->array_items == 0) /* no dimensions, so no description of one either */
        params->lengths[params->count - 1] = ARRAY_HEADER_BYTES - 8;
}

int pg_params_values(const struct pg_params *params, const char *values[PG_PARAMS_MAX],
                     struct error *error)
{
    if (params == NULL)
        return 0;
    if (params->bytes.no_memory) /* the input is not to blame */
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for parameters");
    if (params->bytes.failed)
        return error_set(error, ERROR_LIMIT, RETRY_POISON, "parameters of more than %zu bytes",
                         params->bytes.bytes_max);
    assert(!params->array_open);
    const char *bytes = (const char *)buffer_data(&params->bytes);
    for (int i = 0; i < params->count; i++)
        values[i] = params->lengths[i] < 0 ? NULL : bytes + params->offsets[i];
    return 0;
}
