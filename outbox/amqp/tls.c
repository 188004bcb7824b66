#include "outbox/amqp/tls.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <unistd.h>

static void on_info(const SSL *ssl, int where, int status)
{
    struct tls *tls = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

    (void)status;
    tls->verify_result = SSL_get_verify_result(ssl);
    if (where & SSL_CB_HANDSHAKE_DONE) {
        /* The callback promises not to change the object inside the callback; afterwards it is
         * ours as much as rabbitmq-c's, in the same thread. */
        union {
            const SSL *given;
            SSL *ours;
        } object = {.given = ssl};

        tls->ssl = object.ours;
    }
}

/* The first reason OpenSSL left behind. */
static const char *openssl_reason(void)
{
    unsigned long code = ERR_peek_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;

    return reason ? reason : "unknown reason";
}

static int file_error(const char *what, const char *file, struct error *error)
{
    if (access(file, R_OK))
        return error_set_errno(error, errno, RETRY_NEVER, "%s '%s'", what, file);
    return error_set(error, ERROR_USAGE, RETRY_NEVER, "%s '%s' cannot be used: %s", what, file,
                     openssl_reason());
}

static bool set_host(SSL_CTX *context, const char *host)
{
    X509_VERIFY_PARAM *parameters = SSL_CTX_get0_param(context);
    struct in6_addr address;

    if (inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(parameters, host) == 1;
    X509_VERIFY_PARAM_set_hostflags(parameters, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_host(parameters, host, 0) == 1;
}

static int load_files(SSL_CTX *context, amqp_socket_t *socket, const struct tls_options *options,
                      struct error *error)
{
    const char *key = options->key_file ? options->key_file : options->certificate_file;

    if (options->ca_file) {
        if (amqp_ssl_socket_set_cacert(socket, options->ca_file))
            return file_error("the file of trusted CAs", options->ca_file, error);
    } else if (SSL_CTX_set_default_verify_paths(context) != 1) {
        return error_set(error, ERROR_SYSTEM, RETRY_NEVER, "the system's CAs cannot be used: %s",
                         openssl_reason());
    }
    if (!options->certificate_file)
        return 0;
    if (SSL_CTX_use_certificate_chain_file(context, options->certificate_file) != 1)
        return file_error("the client certificate", options->certificate_file, error);
    /* This also finds a key that does not belong to the certificate. */
    if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
        return file_error("the client certificate's key", key, error);
    return 0;
}

int tls_prepare(struct tls *tls, amqp_connection_state_t connection,
                const struct tls_options *options, amqp_socket_t **ret_socket, struct error *error)
{
    amqp_socket_t *socket = amqp_ssl_socket_new(connection);
    SSL_CTX *context;

    *tls = (struct tls){.verify_result = X509_V_OK};
    if (!socket)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "cannot create a TLS socket: %s",
                         openssl_reason());
    context = amqp_ssl_socket_get_context(socket);
    ERR_clear_error();
    SSL_CTX_set_app_data(context, tls);
    SSL_CTX_set_info_callback(context, on_info);
    /* Between two tries of the same bytes the buffer may grow, and so move. */
    SSL_CTX_set_mode(context, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1)
        return error_set(error, ERROR_SYSTEM, RETRY_NEVER, "OpenSSL cannot do TLS 1.2");
    if (options->verify_peer && !set_host(context, options->host))
        return error_set(error, ERROR_USAGE, RETRY_NEVER, "'%s' is no host name to verify",
                         options->host);
    SSL_CTX_set_verify(context, options->verify_peer ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    amqp_ssl_socket_set_verify_peer(socket, options->verify_peer);
    amqp_ssl_socket_set_verify_hostname(socket, false); /* set_host has seen to it */
    *ret_socket = socket;
    return load_files(context, socket, options, error);
}

int tls_handshake_error(const struct tls *tls, int status, const char *peer, struct error *error)
{
    if (tls->verify_result != X509_V_OK)
        return error_set(error, ERROR_REFUSED, RETRY_NEVER,
                         "the certificate of %s is not trusted: %s", peer,
                         X509_verify_cert_error_string(tls->verify_result));
    if (status == AMQP_STATUS_TIMEOUT)
        return error_set(error, ERROR_TIMEOUT, RETRY_RECONNECT,
                         "no TLS handshake with %s within the time allowed", peer);
    if (ERR_peek_error())
        return error_set(error, ERROR_AMQP, RETRY_RECONNECT, "TLS handshake with %s: %s", peer,
                         openssl_reason());
    return error_set(error, ERROR_AMQP, RETRY_RECONNECT, "TLS handshake with %s: %s", peer,
                     amqp_error_string2(status));
}

ssize_t tls_send(struct tls *tls, const void *bytes, size_t count)
{
    int taken, saved;

    assert(tls->ssl);
    ERR_clear_error();
    errno = 0;
    taken = SSL_write(tls->ssl, bytes, count > INT_MAX ? INT_MAX : (int)count);
    if (taken > 0)
        return taken;
    saved = errno;
    switch (SSL_get_error(tls->ssl, taken)) {
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        break;
    case SSL_ERROR_WANT_READ:
        errno = EBUSY;
        break;
    default:
        errno = saved ? saved : EPIPE;
    }
    return -1;
}

bool tls_pending(const struct tls *tls)
{
    return tls->ssl && SSL_has_pending(tls->ssl);
}
