/* tls.h: TLS to the broker: certificates, verification, and writing without blocking.
 *
 * rabbitmq-c opens the socket and shakes hands, and reads; it writes only with blocking calls of
 * one frame each. OpenSSL's info callback hands us the SSL object of the handshake, and through it
 * the batch buffer is written as it is on plain TCP: many frames per record, never blocking. (A
 * broker that stops reading would otherwise hold the whole process inside amqp_basic_publish.)
 *
 * Verification is OpenSSL's, with the host name or IP address set on the context, so that it fails
 * inside the handshake, before anything of ours is sent; rabbitmq-c 0.11's own check does not know
 * IP addresses. System CAs unless a file is given. TLS 1.2 is the least. */
#ifndef SAGAPOST_AMQP_TLS_H
#define SAGAPOST_AMQP_TLS_H

#include "outbox/amqp/compat.h"
#include "outbox/runtime/error.h"
#include <openssl/ssl.h>
#include <sys/types.h>

struct tls_options {
    const char *host;
    const char *ca_file, *certificate_file, *key_file; /* NULL: none */
    bool verify_peer;
};

/* Its address is known to OpenSSL while the connection lives: it must not move. */
struct tls {
    SSL *ssl; /* NULL: plain TCP, or not connected */
    long verify_result;
};

/* Sets the connection's socket; ret_socket is owned by the connection. RETRY_NEVER: a file that
 * cannot be used. */
int tls_prepare(struct tls *tls, amqp_connection_state_t connection,
                const struct tls_options *options, amqp_socket_t **ret_socket,
                struct error *error) MUST_CHECK;

/* Why the handshake failed, in words; always an error. */
int tls_handshake_error(const struct tls *tls, int status, const char *peer, struct error *error);

/* As send(2) on a non-blocking socket: bytes taken, or -1 and errno (EAGAIN: wait for LOOP_WRITE;
 * EBUSY: wait for whatever comes next, OpenSSL wants to read first). A call after either must begin
 * with the same bytes. */
ssize_t tls_send(struct tls *tls, const void *bytes, size_t count);
bool tls_pending(const struct tls *tls); /* bytes that epoll cannot see */

#endif
