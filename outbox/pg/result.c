/* result.c: PostgreSQL's binary formats, read. `struct pg_result` is libpq's own PGresult: libpq
 * gave its type that very tag, so a result is handed on as it is. */
#include "outbox/pg/result.h"

#include "outbox/pg/lend.h"
#include "outbox/pg/wire.h"

#include <assert.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

enum {
    OID_BOOL = 16,
    OID_BYTEA = 17,
    OID_NAME = 19,
    OID_INT8 = 20,
    OID_INT2 = 21,
    OID_INT4 = 23,
    OID_TEXT = 25,
    OID_OID = 26,
    OID_JSON = 114,
    OID_FLOAT4 = 700,
    OID_FLOAT8 = 701,
    OID_UNKNOWN = 705,
    OID_BPCHAR = 1042,
    OID_VARCHAR = 1043,
    OID_TIMESTAMPTZ = 1184,
    OID_UUID = 2950,
    OID_JSONB = 3802,
};

int pg_result_rows(const struct pg_result *result)
{
    return PQntuples(result);
}

int pg_result_columns(const struct pg_result *result)
{
    return PQnfields(result);
}

const char *pg_result_column_name(const struct pg_result *result, int column)
{
    return PQfname(result, column);
}

unsigned pg_result_column_type(const struct pg_result *result, int column)
{
    return PQftype(result, column);
}

int64_t pg_result_affected(const struct pg_result *result)
{
    /* libpq asks for a result it may write to, for no reason; it reads only. */
    return strtoll(PQcmdTuples((PGresult *)(uintptr_t)result), NULL, 10);
}

bool pg_is_null(const struct pg_result *result, int row, int column)
{
    assert(row >= 0 && row < PQntuples(result));
    assert(column >= 0 && column < PQnfields(result));
    return PQgetisnull(result, row, column) != 0;
}

/* The value's bytes, or NULL for NULL. The server's word for the length is checked against the type
 * by every caller: a length that does not fit is a bug of ours, since the type was checked. */
static const uint8_t *value(const struct pg_result *result, int row, int column, int *ret_bytes)
{
    assert(row >= 0 && row < PQntuples(result));
    assert(PQfformat(result, column) == 1); /* 0 for a column that is not there */
    *ret_bytes = PQgetlength(result, row, column);
    /* A row of a log has many values, mostly not NULL: each call of libpq that can be spared
     * counts. */
    if (*ret_bytes == 0 && PQgetisnull(result, row, column))
        return NULL;
    return (const uint8_t *)PQgetvalue(result, row, column);
}

bool pg_bool(const struct pg_result *result, int row, int column)
{
    int bytes;
    const uint8_t *in = value(result, row, column, &bytes);
    assert(PQftype(result, column) == OID_BOOL);
    if (in == NULL)
        return false;
    assert(bytes == 1);
    return in[0] != 0;
}

int64_t pg_int(const struct pg_result *result, int row, int column)
{
    int bytes;
    const uint8_t *in = value(result, row, column, &bytes);
    Oid type = PQftype(result, column);
    assert(type == OID_INT2 || type == OID_INT4 || type == OID_INT8 || type == OID_OID);
    if (in == NULL)
        return 0;
    switch (type) {
    case OID_INT2:
        assert(bytes == 2);
        return (int16_t)wire_u16(in);
    case OID_INT4:
        assert(bytes == 4);
        return (int32_t)wire_u32(in);
    case OID_OID:
        assert(bytes == 4);
        return wire_u32(in);
    default:
        assert(bytes == 8);
        return (int64_t)wire_u64(in);
    }
}

double pg_float(const struct pg_result *result, int row, int column)
{
    int bytes;
    const uint8_t *in = value(result, row, column, &bytes);
    Oid type = PQftype(result, column);
    assert(type == OID_FLOAT8 || type == OID_FLOAT4);
    if (in == NULL)
        return 0;
    if (type == OID_FLOAT4) {
        float narrow;
        assert(bytes == 4);
        memcpy(&narrow, &(uint32_t){wire_u32(in)}, sizeof(narrow));
        return (double)narrow;
    }
    double wide;
    assert(bytes == 8);
    memcpy(&wide, &(uint64_t){wire_u64(in)}, sizeof(wide));
    return wide;
}

int64_t pg_time_us(const struct pg_result *result, int row, int column)
{
    int bytes;
    const uint8_t *in = value(result, row, column, &bytes);
    assert(PQftype(result, column) == OID_TIMESTAMPTZ);
    if (in == NULL)
        return 0;
    assert(bytes == 8);
    return wire_time_to_unix((int64_t)wire_u64(in));
}

struct uuid pg_uuid(const struct pg_result *result, int row, int column)
{
    struct uuid uuid = {0};
    int bytes;
    const uint8_t *in = value(result, row, column, &bytes);
    assert(PQftype(result, column) == OID_UUID);
    if (in == NULL)
        return uuid;
    assert(bytes == (int)sizeof(uuid.bytes));
    memcpy(uuid.bytes, in, sizeof(uuid.bytes));
    return uuid;
}

const char *pg_bytes(const struct pg_result *result, int row, int column, size_t *ret_bytes)
{
    int bytes = 0;
    const uint8_t *in = value(result, row, column, &bytes);
    Oid type = PQftype(result, column);
    assert(type == OID_TEXT || type == OID_VARCHAR || type == OID_BPCHAR || type == OID_NAME ||
           type == OID_UNKNOWN || type == OID_JSON || type == OID_BYTEA || type == OID_JSONB);
    if (in != NULL && type == OID_JSONB) {
        assert(bytes >= 1 && in[0] == WIRE_JSONB_VERSION);
        in++;
        bytes--;
    }
    *ret_bytes = (size_t)bytes;
    return (const char *)in;
}

const char *pg_text(const struct pg_result *result, int row, int column)
{
    size_t bytes;
    assert(PQftype(result, column) != OID_BYTEA); /* it may hold NULs */
    return pg_bytes(result, row, column, &bytes);
}

/* Ownership ---------------------------------------------------------------------------------- */

/* The result that a callback has borrowed right now: one at most, since callbacks run one at a
 * time in one thread and none of them is called from another. */
static struct pg_result *lent;

void pg_result_lend(struct pg_result *result)
{
    assert(lent == NULL);
    lent = result;
}

void pg_result_lend_end(struct pg_result *result)
{
    if (lent == result)
        PQclear(result);
    lent = NULL;
}

struct pg_result *pg_result_keep(struct pg_result *borrowed)
{
    assert(borrowed != NULL && borrowed == lent);
    lent = NULL;
    return borrowed;
}

void pg_result_free(struct pg_result *kept)
{
    PQclear(kept);
}
