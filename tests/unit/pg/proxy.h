/* proxy.h: a TCP proxy on the loop of the test, between a session and its server. */
#ifndef SAGAPOST_TEST_PG_PROXY_H
#define SAGAPOST_TEST_PG_PROXY_H

#include "outbox/runtime/buffer.h"
#include "outbox/runtime/loop.h"

enum proxy_mode {
    PROXY_PASS,
    PROXY_BYTES,   /* to the client, one byte a time */
    PROXY_SWALLOW, /* what the server answers is lost */
    PROXY_HOLD,    /* what the server answers waits for proxy_cut_after_answers */
    PROXY_SILENT,  /* connections are accepted by the kernel, and nobody answers */
};

struct proxy_side {
    int fd;
    struct loop_fd *watch;
    struct buffer out; /* to be written to this side */
};

struct proxy {
    struct loop *loop;
    enum proxy_mode mode;
    int listener, server_port;
    struct loop_fd *watch;
    struct proxy_side client, server; /* one connection at a time; fd -1: none */
    int connections;
    size_t swallowed_bytes;
};

void proxy_open(struct proxy *proxy, struct loop *loop, int server_port);
int proxy_port(const struct proxy *proxy);
void proxy_cut(struct proxy *proxy);               /* both sides, without a word */
void proxy_cut_after_answers(struct proxy *proxy); /* what is held arrives with the end */
void proxy_close(struct proxy *proxy);

#endif
