/* TLS against a fake broker: what is trusted and what is not, and that the stream is the same. */
#include "tests/unit/amqp/certificates.h"
#include "tests/unit/amqp/fake.h"
#include "tests/unit/amqp/recorder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fake fake;
static struct recorder recorder;
static struct certificates files;

static int group_setup(void **state)
{
    (void)state;
    certificates_make(&files);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    certificates_remove(&files);
    return 0;
}

/* The fake shows `certificate`; the session trusts the test's CA unless the test says otherwise. */
static void prepare(const char *certificate, const char *key)
{
    fake_init(&fake);
    fake.tls = SSL_CTX_new(TLS_server_method());
    assert_non_null(fake.tls);
    assert_int_equal(SSL_CTX_use_certificate_file(fake.tls, certificate, SSL_FILETYPE_PEM), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey_file(fake.tls, key, SSL_FILETYPE_PEM), 1);
    recorder_init(&recorder, fake.tls_uri);
    recorder.options.ca_file = files.ca;
}

static void finish(void)
{
    recorder_free(&recorder);
    fake_finish(&fake);
    SSL_CTX_free(fake.tls);
}

/* The session looks whether somebody listens before it opens the socket that it keeps. */
static void accept_tls(struct fake *f)
{
    SSL_CTX *tls = f->tls;

    f->tls = NULL;
    fake_accept(f);
    fake_expect_eof(f);
    f->tls = tls;
    fake_accept(f);
}

static void publish_and_confirm(struct fake *f)
{
    accept_tls(f);
    fake_login(f);
    fake_channel(f);
    fake_expect(f, 1, AMQP_BASIC_PUBLISH_METHOD);
    fake_read(f);
    fake_read(f);
    fake_send_ack(f, 1, false);
    fake_deliver(f, 1, "hello");
    fake_expect(f, 1, AMQP_BASIC_ACK_METHOD);
    fake_goodbye(f);
}

static void expect_traffic(void)
{
    fake_start(&fake, publish_and_confirm);
    recorder.acknowledge = true;
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    assert_int_equal(recorder_publish(&recorder, "x", "k", "id"), 1);
    recorder_wait(&recorder, recorder.acked == 1 && recorder.deliveries == 1);
    recorder_turn(&recorder, 0);
    assert_int_equal(recorder.downs, 0);
    finish();
}

static void test_a_trusted_broker(void **state)
{
    (void)state;
    prepare(files.server, files.server_key);
    expect_traffic();
}

static void test_by_name(void **state)
{
    char uri[128];

    (void)state;
    prepare(files.server, files.server_key);
    snprintf(uri, sizeof(uri), "amqps://user:secret@localhost:%d/vh", fake.port);
    recorder.options.uri = uri;
    expect_traffic();
}

static void test_the_uri_names_the_ca(void **state)
{
    char uri[512];

    (void)state;
    prepare(files.server, files.server_key);
    snprintf(uri, sizeof(uri), "%s?cacertfile=%s", fake.tls_uri, files.ca);
    recorder.options.uri = uri;
    recorder.options.ca_file = files.other_ca;
    expect_traffic();
}

static void test_unverified_when_told_so(void **state)
{
    char uri[512];

    (void)state;
    prepare(files.elsewhere, files.elsewhere_key);
    recorder.options.verify_peer = false;
    recorder.options.ca_file = NULL;
    expect_traffic();

    prepare(files.elsewhere, files.elsewhere_key);
    snprintf(uri, sizeof(uri), "%s?verify=verify_none", fake.tls_uri);
    recorder.options.uri = uri;
    expect_traffic();
}

static int require_certificate(int good, X509_STORE_CTX *context)
{
    (void)context;
    return good;
}

static void test_a_client_certificate(void **state)
{
    (void)state;
    prepare(files.server, files.server_key);
    assert_int_equal(SSL_CTX_load_verify_locations(fake.tls, files.ca, NULL), 1);
    SSL_CTX_set_verify(fake.tls, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                       require_certificate);
    recorder.options.certificate_file = files.client;
    recorder.options.key_file = files.client_key;
    expect_traffic();
}

static void only_accepts(struct fake *f)
{
    accept_tls(f);
    fake_expect_eof(f);
}

static void expect_refusal(const char *says)
{
    fake_start(&fake, only_accepts);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.downs >= 1);
    if (!strstr(recorder.why.message, says))
        fail_msg("'%s' does not say '%s'", recorder.why.message, says);
    assert_non_null(strstr(recorder.why.message, "127.0.0.1:"));
    assert_null(strstr(recorder.why.message, "secret"));
    assert_int_equal(recorder.why.retry, RETRY_NEVER);
    assert_int_equal(recorder.ups, 0);
    finish();
}

static void test_who_is_not_trusted(void **state)
{
    (void)state;
    prepare(files.server, files.server_key);
    recorder.options.ca_file = files.other_ca;
    expect_refusal("not trusted: unable to get local issuer certificate");

    prepare(files.server, files.server_key);
    recorder.options.ca_file = NULL; /* the system's */
    expect_refusal("not trusted: unable to get local issuer certificate");

    prepare(files.elsewhere, files.elsewhere_key);
    expect_refusal("not trusted: IP address mismatch");

    prepare(files.expired, files.expired_key);
    expect_refusal("not trusted: certificate has expired");
}

static void expect_bad_file(const char *says, const char *name)
{
    SSL_CTX *tls = fake.tls;

    fake.tls = NULL;
    fake_start(&fake, fake_accept);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.downs >= 1);
    if (!strstr(recorder.why.message, says) || !strstr(recorder.why.message, name))
        fail_msg("'%s' does not say '%s' and '%s'", recorder.why.message, says, name);
    assert_int_equal(recorder.why.retry, RETRY_NEVER);
    fake.tls = tls;
    finish();
}

static void test_files_that_cannot_be_used(void **state)
{
    (void)state;
    prepare(files.server, files.server_key);
    recorder.options.ca_file = "/nonexistent/ca.pem";
    expect_bad_file("trusted CAs", "'/nonexistent/ca.pem': No such file");

    prepare(files.server, files.server_key);
    recorder.options.ca_file = files.nonsense;
    expect_bad_file("trusted CAs", files.nonsense);

    prepare(files.server, files.server_key);
    recorder.options.certificate_file = files.nonsense;
    expect_bad_file("client certificate", files.nonsense);

    prepare(files.server, files.server_key);
    recorder.options.certificate_file = files.client;
    recorder.options.key_file = files.nonsense;
    expect_bad_file("key", files.nonsense);

    prepare(files.server, files.server_key);
    recorder.options.certificate_file = files.client;
    recorder.options.key_file = files.server_key;
    expect_bad_file("key values mismatch", files.server_key);
}

static void no_handshake(struct fake *f)
{
    fake_accept(f);
    fake_expect_eof(f);
    fake_accept(f); /* silence */
    fake_expect_eof(f);
    fake_accept(f);
    fake_expect_eof(f);
    fake_accept(f); /* AMQP without TLS */
    fake_send_bytes(f, "AMQP\0\0\x09\x01", 8);
    fake_expect_eof(f);
}

static void test_a_peer_without_tls(void **state)
{
    SSL_CTX *tls;

    (void)state;
    prepare(files.server, files.server_key);
    tls = fake.tls;
    fake.tls = NULL;
    recorder.options.connect_timeout_us = US_PER_S;
    fake_start(&fake, no_handshake);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.downs == 1);
    assert_int_equal(recorder.why.code, ERROR_TIMEOUT);
    recorder_wait(&recorder, recorder.downs == 2);
    assert_non_null(strstr(recorder.why.message, "TLS handshake"));
    assert_int_equal(recorder.why.retry, RETRY_RECONNECT);
    fake.tls = tls;
    finish();
}

/* ---- much more than a record, and a broker that does not read ---- */

#define LARGE_BYTES 200000
#define MESSAGES    60

static void reads_late(struct fake *f)
{
    const uint8_t *expected = f->context;

    accept_tls(f);
    fake_login(f);
    fake_channel(f);
    fake_wait(f);
    for (int i = 1; i <= MESSAGES; i++) {
        size_t got = 0;

        fake_expect(f, 1, AMQP_BASIC_PUBLISH_METHOD);
        fake_read(f);
        while (got < LARGE_BYTES) {
            fake_read(f);
            if (f->frame.type != AMQP_FRAME_BODY || got + f->frame.bytes > LARGE_BYTES ||
                memcmp(f->frame.payload, expected + got, f->frame.bytes) != 0)
                fake_fail(f, "a body that is not what was published");
            got += f->frame.bytes;
        }
        fake_send_ack(f, (uint64_t)i, false);
    }
    fake_goodbye(f);
}

static void test_writing_does_not_block(void **state)
{
    uint8_t *body = malloc(LARGE_BYTES);
    const struct broker_message message = {
        .routing_key = text_of("k"), .body = body, .body_bytes = LARGE_BYTES};
    struct error error = {0};
    uint64_t tag = 0;

    (void)state;
    assert_non_null(body);
    for (size_t i = 0; i < LARGE_BYTES; i++)
        body[i] = (uint8_t)(i * 13 + i / 777);
    prepare(files.server, files.server_key);
    fake.context = body;
    recorder.options.out_bytes_max = 300000;
    fake_start(&fake, reads_late);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    while (broker_can_publish(recorder.broker)) {
        assert_int_equal(broker_publish(recorder.broker, &message, &tag, &error), 0);
        recorder_turn(&recorder, 0);
        assert_true(tag < MESSAGES);
    }
    fake_go(&fake);
    while (tag < MESSAGES) {
        recorder_wait(&recorder, broker_can_publish(recorder.broker));
        assert_int_equal(broker_publish(recorder.broker, &message, &tag, &error), 0);
    }
    recorder_wait(&recorder, recorder.acked == MESSAGES);
    assert_int_equal(recorder.downs, 0);
    assert_true(recorder.writables > 0);
    finish();
    free(body);
}

static void ends(struct fake *f)
{
    accept_tls(f);
    fake_login(f);
    fake_channel(f);
    fake_close(f);
    accept_tls(f);
    fake_login(f);
    fake_channel(f);
    fake_send_close(f, 0, 320, "CONNECTION_FORCED");
    SSL_shutdown(f->ssl);
    fake_close(f);
    accept_tls(f);
    fake_login(f);
    fake_channel(f);
    fake_goodbye(f);
}

static void test_a_connection_that_ends(void **state)
{
    (void)state;
    prepare(files.server, files.server_key);
    fake_start(&fake, ends);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.downs == 1);
    assert_int_equal(recorder.why.retry, RETRY_RECONNECT);
    recorder_wait(&recorder, recorder.downs == 2);
    assert_int_equal(recorder.why.amqp_code, 320);
    recorder_wait(&recorder, recorder.ups == 3);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_trusted_broker),
        cmocka_unit_test(test_by_name),
        cmocka_unit_test(test_the_uri_names_the_ca),
        cmocka_unit_test(test_unverified_when_told_so),
        cmocka_unit_test(test_a_client_certificate),
        cmocka_unit_test(test_who_is_not_trusted),
        cmocka_unit_test(test_files_that_cannot_be_used),
        cmocka_unit_test(test_a_peer_without_tls),
        cmocka_unit_test(test_writing_does_not_block),
        cmocka_unit_test(test_a_connection_that_ends),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
