/* result.h: what a statement gave back, in binary.
 *
 * Rows live in libpq's memory and are read in place: a value's pointer is good until the result is
 * freed. Whoever gets a result in a callback only borrows it; pg_result_keep takes it over (then
 * pg_result_free is the keeper's). Reading a column as another type than it has is a bug and
 * asserts; reading NULL through a typed getter gives the zero value, so ask pg_is_null first where
 * NULL means something. */
#ifndef SAGAPOST_PG_RESULT_H
#define SAGAPOST_PG_RESULT_H

#include "outbox/runtime/error.h"
#include "outbox/runtime/uuid.h"
#include <stddef.h>
#include <stdint.h>

/* libpq's own PGresult, under the tag libpq gives it. */
struct pg_result;

int pg_result_rows(const struct pg_result *result);
int pg_result_columns(const struct pg_result *result);
const char *pg_result_column_name(const struct pg_result *result, int column);
unsigned pg_result_column_type(const struct pg_result *result,
                               int column); /* an OID: enum pg_type */
int64_t pg_result_affected(
    const struct pg_result *result); /* rows written by INSERT, UPDATE, DELETE */
bool pg_is_null(const struct pg_result *result, int row, int column);
bool pg_bool(const struct pg_result *result, int row, int column);
int64_t pg_int(const struct pg_result *result, int row, int column); /* int2, int4, int8, oid */
double pg_float(const struct pg_result *result, int row, int column);
int64_t pg_time_us(const struct pg_result *result, int row,
                   int column); /* timestamptz, as microseconds since 1970 */
struct uuid pg_uuid(const struct pg_result *result, int row, int column);
/* text, varchar, json, bytea: bytes and their number (NUL-terminated by libpq, though bytea may
 * hold NULs). jsonb: the text after its version byte. */
const char *pg_bytes(const struct pg_result *result, int row, int column, size_t *ret_bytes);
const char *pg_text(const struct pg_result *result, int row, int column); /* NULL for NULL */

struct pg_result *pg_result_keep(struct pg_result *borrowed);
void pg_result_free(struct pg_result *kept); /* NULL is fine */
static inline void pg_result_freep(struct pg_result **result)
{
    pg_result_free(*result);
}

/* The class of a SQLSTATE: 40001, 40P01 now; 55P03, 53xxx, 57014, 58xxx later; 08xxx, 57P0x, 25006
 * (a primary that no longer is) reconnect; 28xxx, 3D000, 42501 never (said once, retried all the
 * same by a session); 22xxx, 23xxx, 54xxx poison; SGxxx refused by a rule (poison, with code
 * ERROR_REFUSED); anything else a bug. Source: PostgreSQL's Appendix A. */
enum error_retry pg_classify_sqlstate(const char *sqlstate);

#endif
