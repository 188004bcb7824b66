#include "tests/unit/pg/fake_session.h"
#include "outbox/pg/lend.h"
#include "outbox/pg/wire.h"

/* cmocka wants these before itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUESTS_MAX 64
#define COLUMNS_MAX  32

struct request {
    char name[64];
    struct pg_params params;
    pg_callback *callback;
    void *data;
};

static struct {
    struct request requests[REQUESTS_MAX];
    int first, count;
    bool up;
    int fails_in;
    struct error failure;
    char reconnect[256];
} fake;

struct pg_session_options fake_session_options;
bool fake_session_creations_fail;
unsigned fake_session_attempts_failed = 1;
int fake_sessions_open;

/* For the test ----------------------------------------------------------------------------------
 */

struct pg_session *fake_session(void)
{
    return (struct pg_session *)(void *)&fake;
}

static void pop(void)
{
    pg_params_free(&fake.requests[fake.first].params);
    fake.first++;
}

void fake_session_start(void)
{
    fake_session_stop();
    fake.up = true;
    fake_session_creations_fail = false;
    fake_session_attempts_failed = 1;
}

void fake_session_stop(void)
{
    while (fake.first < fake.count)
        pop();
    memset(&fake, 0, sizeof(fake));
}

/* The oldest request that somebody waits for; NULL: there is none. */
static struct request *oldest(void)
{
    while (fake.first < fake.count) {
        struct request *request = &fake.requests[fake.first];
        if (request->callback || strcmp(request->name, "sync") != 0)
            return request;
        pop();
    }
    return NULL;
}

const char *fake_asked(void)
{
    struct request *request = oldest();
    return request ? request->name : "";
}

static void give(struct pg_result *result, const struct error *failure)
{
    struct request request = fake.requests[fake.first++];
    if (result)
        pg_result_lend(result);
    if (request.callback)
        request.callback(request.data, result, failure);
    if (result)
        pg_result_lend_end(result);
    pg_params_free(&request.params);
}

static void expect(const char *name)
{
    assert_string_equal(fake_asked(), name);
}

void fake_answer(const char *name, struct pg_result *result)
{
    expect(name);
    give(result, NULL);
}

void fake_refuse(const char *name, enum error_retry retry, const char *sqlstate)
{
    struct error failure = {0}, aborted = {0};
    bool ended = strcmp(name, "sync") == 0; /* a COMMIT that nobody spoke of */

    expect(name);
    error_set(&failure, ERROR_POSTGRES, retry, "the server says no to %s", name);
    snprintf(failure.sqlstate, sizeof(failure.sqlstate), "%s", sqlstate);
    error_set(&aborted, ERROR_STATE, retry, "pipeline_aborted: %s", failure.message);
    give(NULL, &failure);
    while (!ended && fake.first < fake.count) {
        ended = strcmp(fake.requests[fake.first].name, "sync") == 0;
        give(NULL, ended ? &failure : &aborted);
    }
}

void fake_refuse_and_lose(const char *name, enum error_retry retry, const char *sqlstate)
{
    struct error failure = {0};

    expect(name);
    error_set(&failure, ERROR_POSTGRES, retry, "the server says no to %s", name);
    snprintf(failure.sqlstate, sizeof(failure.sqlstate), "%s", sqlstate);
    give(NULL, &failure);
    fake_loses_connection();
}

void fake_loses_connection(void)
{
    struct error failure = {0};
    error_set(&failure, ERROR_POSTGRES, RETRY_RECONNECT, "the connection is lost");
    fake.up = false;
    while (oldest())
        give(NULL, &failure);
}

void fake_session_up(bool up)
{
    fake.up = up;
    fake.reconnect[0] = 0;
}

bool fake_session_is_up(void)
{
    return fake.up;
}

bool fake_session_send_failed(void)
{
    return fake.fails_in == 0 && fake.failure.code < 0;
}

void fake_session_send_fails(int nth, enum error_code code, enum error_retry retry)
{
    fake.fails_in = nth;
    error_clear(&fake.failure);
    if (nth > 0)
        error_set(&fake.failure, code, retry, "it cannot be sent");
}

const char *fake_reconnect_asked(void)
{
    return fake.reconnect[0] ? fake.reconnect : NULL;
}

/* Parameters as text ----------------------------------------------------------------------------
 */

static int print_value(char *out, size_t room, unsigned type, const uint8_t *bytes, int length)
{
    struct uuid uuid;
    char text[UUID_TEXT_BYTES];

    if (length < 0)
        return snprintf(out, room, "null");
    switch (type) {
    case PG_TYPE_BOOL:
        return snprintf(out, room, "%s", bytes[0] ? "true" : "false");
    case PG_TYPE_INT4:
        return snprintf(out, room, "%" PRId32, (int32_t)wire_u32(bytes));
    case PG_TYPE_INT8:
        return snprintf(out, room, "%" PRId64, (int64_t)wire_u64(bytes));
    case PG_TYPE_UUID:
        memcpy(&uuid, bytes, sizeof(uuid));
        uuid_format(&uuid, text);
        return snprintf(out, room, "%s", text);
    case PG_TYPE_JSONB: /* behind its version */
        return snprintf(out, room, "%.*s", length - 1, (const char *)bytes + 1);
    default:
        return snprintf(out, room, "%.*s", length, (const char *)bytes);
    }
}

/* An array of one dimension: dimensions, has nulls, item type, items, lower bound, then the items.
 */
static void print_array(char *out, size_t room, const uint8_t *bytes)
{
    int items = wire_u32(bytes) ? (int)wire_u32(bytes + 12) : 0;
    unsigned type = wire_u32(bytes + 8);
    size_t used = 0;

    bytes += 20;
    out[used++] = '{';
    for (int i = 0; i < items && used + 2 < room; i++) {
        int length = (int)wire_u32(bytes);
        if (i > 0)
            out[used++] = ',';
        used += (size_t)print_value(out + used, room - used, type, bytes + 4, length);
        bytes += 4 + (length > 0 ? length : 0);
    }
    assert_true(used + 2 < room);
    snprintf(out + used, room - used, "}");
}

static bool is_array(unsigned type)
{
    static const unsigned arrays[] = {1000, 1005, 1007, 1016, 1009, 1185, 2951, 3807};
    for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++)
        if (arrays[i] == type)
            return true;
    return false;
}

const char *fake_param(int number)
{
    static char text[1 << 20];
    const char *values[PG_PARAMS_MAX];
    struct request *request = oldest();
    int i = number - 1;

    assert_non_null(request);
    assert_in_range(number, 1, request->params.count);
    assert_int_equal(pg_params_values(&request->params, values, NULL), 0);
    if (values[i] && is_array(request->params.types[i]))
        print_array(text, sizeof(text), (const uint8_t *)values[i]);
    else
        print_value(text, sizeof(text), request->params.types[i], (const uint8_t *)values[i],
                    values[i] ? request->params.lengths[i] : -1);
    return text;
}

/* In place of outbox/pg/session.c ---------------------------------------------------------------
 */

#define INSTEAD(type, name, parameters)                                                            \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters

static int take(const char *name, const struct pg_params *params, pg_callback *callback, void *data,
                struct error *error)
{
    if (fake.fails_in > 0 && --fake.fails_in == 0) {
        *error = fake.failure;
        fake.up = fake.up && error->retry != RETRY_RECONNECT;
        return error->code;
    }
    if (!fake.up)
        return error_set(error, ERROR_STATE, RETRY_RECONNECT, "there is no connection");
    if (fake.first == fake.count)
        fake.first = fake.count = 0;
    assert_true(fake.count < REQUESTS_MAX);
    struct request *request = &fake.requests[fake.count++];
    *request = (struct request){.callback = callback, .data = data};
    snprintf(request->name, sizeof(request->name), "%s", name);
    pg_params_init(&request->params);
    if (params) {
        struct buffer own = request->params.bytes;
        request->params = *params;
        request->params.bytes = own;
        buffer_append(&request->params.bytes, buffer_data(&params->bytes),
                      buffer_length(&params->bytes));
    }
    const char *values[PG_PARAMS_MAX];
    int rc = pg_params_values(params, values, error);
    if (rc == 0 && request->params.bytes.failed) /* the real one copies too */
        rc = error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for a copy");
    if (rc < 0) {
        pg_params_free(&request->params);
        fake.count--;
        return rc;
    }
    return 0;
}

INSTEAD(int, pg_session_send,
        (struct pg_session * session, const struct pg_statement *statement,
         const struct pg_params *params, pg_callback *callback, void *data, struct error *error))
{
    assert_ptr_equal(session, fake_session());
    return take(statement->name, params, callback, data, error);
}

INSTEAD(int, pg_session_send_text,
        (struct pg_session * session, const char *sql, pg_callback *callback, void *data,
         struct error *error))
{
    assert_ptr_equal(session, fake_session());
    return take(sql, NULL, callback, data, error);
}

INSTEAD(int, pg_session_sync,
        (struct pg_session * session, pg_callback *callback, void *data, struct error *error))
{
    assert_ptr_equal(session, fake_session());
    return take("sync", NULL, callback, data, error);
}

INSTEAD(int, pg_session_create,
        (struct pg_session * *ret_session, struct loop *loop,
         const struct pg_session_options *options, struct error *error))
{
    (void)loop;
    if (fake_session_creations_fail)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "a session");
    fake_session_options = *options;
    fake_sessions_open++;
    *ret_session = fake_session();
    return 0;
}

INSTEAD(void, pg_session_start, (struct pg_session * session))
{
    assert_ptr_equal(session, fake_session());
}

/* What waits is told, as by the real one. */
INSTEAD(void, pg_session_destroy, (struct pg_session * session))
{
    struct error failure = {0};
    if (!session)
        return;
    error_set(&failure, ERROR_STATE, RETRY_RECONNECT, "the session is destroyed");
    while (oldest())
        give(NULL, &failure);
    fake_sessions_open--;
}

INSTEAD(void, pg_session_reconnect, (struct pg_session * session, const char *why))
{
    assert_ptr_equal(session, fake_session());
    snprintf(fake.reconnect, sizeof(fake.reconnect), "%s", why);
    fake.up = false;
}

INSTEAD(unsigned, pg_session_attempts, (const struct pg_session *session))
{
    assert_ptr_equal(session, fake_session());
    return fake.up ? 0 : fake_session_attempts_failed;
}

INSTEAD(int, pg_session_backend_pid, (const struct pg_session *session))
{
    assert_ptr_equal(session, fake_session());
    return 4711;
}

INSTEAD(bool, pg_session_is_up, (const struct pg_session *session))
{
    assert_ptr_equal(session, fake_session());
    return fake.up;
}

/* Results ---------------------------------------------------------------------------------------
 */

static unsigned type_of(char letter)
{
    switch (letter) {
    case 'b':
        return PG_TYPE_BOOL;
    case 'i':
        return PG_TYPE_INT4;
    case 'I':
    case 'n':
        return PG_TYPE_INT8;
    case 'u':
        return PG_TYPE_UUID;
    case 'N':
    case 'T':
        return PG_TYPE_TIMESTAMPTZ;
    default:
        assert_int_equal(letter, 't');
        return PG_TYPE_TEXT;
    }
}

struct pg_result *fake_result(const char *types)
{
    PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    PGresAttDesc columns[COLUMNS_MAX] = {0};
    char name[] = "column", null[] = "null";
    int count = (int)strlen(types);

    assert_in_range(count, 1, COLUMNS_MAX);
    for (int i = 0; i < count; i++)
        columns[i] = (PGresAttDesc){.name = types[i] == 'n' || types[i] == 'N' ? null : name,
                                    .format = 1,
                                    .typid = type_of(types[i])};
    assert_true(PQsetResultAttrs(result, count, columns));
    return result;
}

static void put(PGresult *result, int row, int column, const void *bytes, int length)
{
    char copy[65536];

    assert_in_range(length + 1, 0, sizeof(copy));
    if (length > 0)
        memcpy(copy, bytes, (size_t)length);
    assert_true(PQsetvalue(result, row, column, length < 0 ? NULL : copy, length));
}

struct pg_result *fake_row(struct pg_result *result, ...)
{
    int row = PQntuples(result);
    va_list values;

    va_start(values, result);
    for (int column = 0; column < PQnfields(result); column++) {
        uint8_t bytes[8];
        const char *text;
        const struct uuid *uuid;
        if (strcmp(PQfname(result, column), "null") == 0) {
            put(result, row, column, NULL, -1);
            continue;
        }
        switch (PQftype(result, column)) {
        case PG_TYPE_BOOL:
            bytes[0] = va_arg(values, int) != 0;
            put(result, row, column, bytes, 1);
            break;
        case PG_TYPE_INT4:
            wire_put_u32(bytes, (uint32_t)va_arg(values, int));
            put(result, row, column, bytes, 4);
            break;
        case PG_TYPE_INT8:
            wire_put_u64(bytes, (uint64_t)va_arg(values, int64_t));
            put(result, row, column, bytes, 8);
            break;
        case PG_TYPE_TIMESTAMPTZ:
            wire_put_u64(bytes, (uint64_t)wire_time_from_unix(va_arg(values, int64_t)));
            put(result, row, column, bytes, 8);
            break;
        case PG_TYPE_UUID:
            uuid = va_arg(values, const struct uuid *);
            put(result, row, column, uuid, uuid ? (int)sizeof(*uuid) : -1);
            break;
        default:
            text = va_arg(values, const char *);
            put(result, row, column, text, text ? (int)strlen(text) : -1);
        }
    }
    va_end(values);
    return result;
}
