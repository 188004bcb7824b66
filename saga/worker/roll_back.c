#include "saga/worker/roll_back.h"

void roll_back(struct pg_session *session, pg_callback *on_rolled_back, void *data)
{
    struct error error;
    if (!pg_session_is_up(session)) {
        return;
    }
    if (pg_session_send_text(session, "ROLLBACK", NULL, NULL, &error) < 0 ||
        pg_session_sync(session, on_rolled_back, data, &error) < 0) {
        pg_session_reconnect(session, error.message);
    }
}
