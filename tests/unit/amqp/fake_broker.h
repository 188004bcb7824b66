/* fake_broker.h: a session to RabbitMQ that is none, with the queues behind it. What the code under
 * test asks for is done, unless the test says that it goes wrong; so each request, delivery and
 * acknowledgement can be the one that is lost, without a server and in a known order.
 *
 *     fake_broker_start();
 *     ... the code creates and starts its session ...
 *     number = fake_broker_send("saga.replies.shop", "shop", body);
 *     while (fake_broker_step()) ...
 *
 * The linker sends calls of broker_* here (--wrap, see meson.build). There is one fake. As with the
 * real one a loss shows at once in broker_is_up, and on_down comes later, from fake_broker_step;
 * then what was not acknowledged comes again. An acknowledgement of what is not out, or was
 * rejected, fails the test: the real broker closes the channel on it. */
#ifndef SAGAPOST_TESTS_AMQP_FAKE_BROKER_H
#define SAGAPOST_TESTS_AMQP_FAKE_BROKER_H

#include "outbox/amqp/broker.h"

/* Forgets everything: the connection, and what was sent. */
void fake_broker_start(void);
/* A message for a queue, which need not be there yet. Returns its number, from 0 on; its message-id
 * is a UUID that ends with it. */
int fake_broker_send(const char *queue, const char *routing_key, const char *body);
/* What a session does by itself, one thing: tells of a loss, connects, delivers. False: nothing was
 * to do. */
bool fake_broker_step(void);

/* The nth event from now on (1: the next; requests of on_up, deliveries, acknowledgements and
 * rejections count) is lost together with the connection; 0: none is. */
void fake_broker_loses(int nth);
/* In place of the nth delivery the consumer is cancelled. */
void fake_broker_cancels(int nth);
bool fake_broker_struck(void); /* it has come to that */

bool fake_broker_is_empty(void);               /* all that was sent is acknowledged or rejected */
int fake_broker_rejected(void);                /* how many */
const char *fake_broker_reconnect_asked(void); /* why, the last time; NULL: never */

/* Called with the number of each message that is acknowledged. */
extern void (*fake_broker_on_ack)(int number);
extern bool fake_broker_creations_fail; /* broker_create is ERROR_NO_MEMORY */
extern int fake_brokers_open;           /* created and not destroyed */

#endif
