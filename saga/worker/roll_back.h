/* roll_back.h: how both roles end a transaction that has failed.
 *
 * One that cannot be rolled back ends with its connection: the next BEGIN would be inside it, and
 * the next COMMIT would keep what has failed. Without a connection it is gone already: then
 * on_rolled_back is not called, and the session's on_down tells. */
#ifndef SAGAPOST_WORKER_ROLL_BACK_H
#define SAGAPOST_WORKER_ROLL_BACK_H

#include "outbox/pg/session.h"

void roll_back(struct pg_session *session, pg_callback *on_rolled_back, void *data);

#endif
