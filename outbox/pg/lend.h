/* lend.h: how the session lends a result to a callback (pg_result_keep takes it from there). */
#ifndef SAGAPOST_PG_LEND_H
#define SAGAPOST_PG_LEND_H

#include "outbox/pg/result.h"

void pg_result_lend(struct pg_result *result);
/* After the callback: frees it unless the callback kept it. `result` is compared, not read. */
void pg_result_lend_end(struct pg_result *result);

#endif
