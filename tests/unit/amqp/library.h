/* library.h: a connection with rabbitmq-c alone, for what the session has no verb for. */
#ifndef SAGAPOST_TESTS_AMQP_LIBRARY_H
#define SAGAPOST_TESTS_AMQP_LIBRARY_H

#include "outbox/amqp/compat.h"

amqp_connection_state_t library_connect(const char *uri);
void library_delete_queue(const char *uri, const char *queue);
/* messages ready in it */
int library_queue_length(const char *uri, const char *queue);
void library_disconnect(amqp_connection_state_t connection);

#endif
