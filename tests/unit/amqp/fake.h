/* fake.h: a broker on a loopback socket that says what the test tells it.
 *
 * The script is a C function that runs in a thread of its own, because the session under test
 * blocks while it logs in. Whatever does not go as the script has it ends the thread with a reason;
 * fake_finish, in the test's thread, fails the test with it. Every read has a limit of 10 s. */
#ifndef SAGAPOST_TESTS_AMQP_FAKE_H
#define SAGAPOST_TESTS_AMQP_FAKE_H

#include "outbox/amqp/compat.h"
#include <openssl/ssl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>

#define FAKE_PAYLOAD_MAX 131072

struct fake_frame {
    int type, channel;
    uint32_t method; /* of a METHOD frame */
    size_t bytes;
    uint8_t payload[FAKE_PAYLOAD_MAX];
};

struct fake {
    char uri[128];     /* amqp://user:secret@127.0.0.1:port/vh */
    char tls_uri[128]; /* the same with amqps:// */
    int port;
    int listen_fd, fd;
    SSL_CTX *tls; /* NULL: plain */
    SSL *ssl;
    uint32_t frame_max;
    uint16_t heartbeat_s;
    bool dribble; /* sends byte by byte, to see frames put together */
    sem_t to_script, to_test;
    pthread_t thread;
    void (*script)(struct fake *fake);
    void *context;
    struct fake_frame frame; /* the last one read */
    char failure[256];
};

/* ---- for the test ---- */
void fake_init(struct fake *fake);                                     /* bound, not listening */
void fake_start(struct fake *fake, void (*script)(struct fake *fake)); /* listens */
void fake_finish(struct fake *fake); /* waits for the script's end */
void fake_go(struct fake *fake);     /* one fake_wait of the script returns */
bool fake_said(struct fake *fake);   /* the script has called fake_say once more */
void fake_hear(struct fake *fake);   /* waits until it has */

/* ---- for the script ---- */
void fake_wait(struct fake *fake);
void fake_say(struct fake *fake);
void fake_fail(struct fake *fake, const char *why) __attribute__((noreturn));
void fake_accept(struct fake *fake);
void fake_login(struct fake *fake);       /* protocol header to open-ok */
void fake_login_start(struct fake *fake); /* up to start-ok, which it has read */
void fake_tune(struct fake *fake);        /* tune, tune-ok, connection.open, which it has read */
void fake_channel(struct fake *fake);     /* channel.open and confirm.select */
void fake_up(struct fake *fake);          /* accept, login, channel */
void fake_read(struct fake *fake);        /* a frame, heartbeats included */
void fake_expect(struct fake *fake, int channel, uint32_t method);    /* passes over heartbeats */
int fake_read_until(struct fake *fake, int channel, uint32_t method); /* basic.publish in between */
void fake_read_publishes(struct fake *fake, int count); /* each with a body in one frame */
void fake_expect_eof(struct fake *fake);
void fake_send_bytes(struct fake *fake, const void *bytes, size_t count);
void fake_send(struct fake *fake, int channel, uint32_t method, void *decoded);
void fake_send_header(struct fake *fake, int channel, uint64_t body_bytes, const char *message_id);
/* A basic.return with its header: what was published to exchange x with the key k had no queue. Its
 * body is to follow. */
void fake_send_return(struct fake *fake, const char *message_id, uint64_t body_bytes);
void fake_send_body(struct fake *fake, int channel, const char *text);
void fake_send_heartbeat(struct fake *fake);
void fake_send_ack(struct fake *fake, uint64_t tag, bool multiple);
void fake_send_close(struct fake *fake, int channel, int code, const char *text);
void fake_deliver(struct fake *fake, uint64_t tag, const char *body);
void fake_close(struct fake *fake);
void fake_reset(struct fake *fake);    /* RST */
bool fake_try_read(struct fake *fake); /* false at the end */
/* A script of its own: one connection after the other, whatever is asked is done, each publish is
 * confirmed, but with this routing key refused, each consumer gets one message; until fake_end. */
#define FAKE_REFUSED "refused"
void fake_serve(struct fake *fake);
/* The same for a few connections at a time; says so (fake_hear) once it is ready. */
#define FAKE_SERVED_AT_ONCE 4
void fake_serve_some(struct fake *fake);
void fake_end(struct fake *fake);
/* The good end: connection.close from the session, answered. */
void fake_goodbye(struct fake *fake);

#endif
