#include "tests/unit/amqp/certificates.h"
#include "tests/unit/amqp/cmocka_with.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DAY_S (24 * 3600)

struct signer {
    X509 *certificate;
    EVP_PKEY *key;
};

static void add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509_EXTENSION *extension;
    X509V3_CTX context;

    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

/* `ca` NULL: signs itself, and may sign others. */
static struct signer make(const struct signer *ca, const char *name, const char *alternatives,
                          long valid_from_s, long valid_to_s)
{
    static long serial = 1;
    struct signer made = {X509_new(), EVP_EC_gen("P-256")};
    X509_NAME *subject;

    assert_non_null(made.certificate);
    assert_non_null(made.key);
    assert_int_equal(X509_set_version(made.certificate, 2), 1);
    ASN1_INTEGER_set(X509_get_serialNumber(made.certificate), serial++);
    X509_gmtime_adj(X509_getm_notBefore(made.certificate), valid_from_s);
    X509_gmtime_adj(X509_getm_notAfter(made.certificate), valid_to_s);
    X509_set_pubkey(made.certificate, made.key);
    subject = X509_get_subject_name(made.certificate);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1,
                               0);
    if (!ca) {
        X509_set_issuer_name(made.certificate, subject);
        add_extension(made.certificate, made.certificate, NID_basic_constraints,
                      "critical,CA:TRUE");
    } else {
        X509_set_issuer_name(made.certificate, X509_get_subject_name(ca->certificate));
        if (alternatives)
            add_extension(made.certificate, ca->certificate, NID_subject_alt_name, alternatives);
    }
    assert_true(X509_sign(made.certificate, ca ? ca->key : made.key, EVP_sha256()) > 0);
    return made;
}

static void signer_free(struct signer *signer)
{
    X509_free(signer->certificate);
    EVP_PKEY_free(signer->key);
}

static FILE *create(const struct certificates *c, char path[160], const char *name)
{
    FILE *file;

    snprintf(path, 160, "%s/%s", c->folder, name);
    file = fopen(path, "we");
    assert_non_null(file);
    return file;
}

static void save(const struct certificates *c, const struct signer *signer, char path[160],
                 const char *name)
{
    FILE *file = create(c, path, name);

    assert_int_equal(PEM_write_X509(file, signer->certificate), 1);
    assert_int_equal(fclose(file), 0);
}

static void save_key(const struct certificates *c, const struct signer *signer, char path[160],
                     const char *name)
{
    FILE *file = create(c, path, name);

    assert_int_equal(PEM_write_PrivateKey(file, signer->key, NULL, NULL, 0, NULL, NULL), 1);
    assert_int_equal(fclose(file), 0);
}

static void make_and_save(const struct certificates *c, const struct signer *ca, const char *name,
                          const char *alternatives, long valid_to_s, char path[160],
                          char key_path[160])
{
    struct signer made = make(ca, name, alternatives, -2 * DAY_S, valid_to_s);
    char file[64];

    snprintf(file, sizeof(file), "%s-%ld.pem", name, valid_to_s);
    save(c, &made, path, file);
    snprintf(file, sizeof(file), "%s-%ld.key", name, valid_to_s);
    save_key(c, &made, key_path, file);
    signer_free(&made);
}

void certificates_make(struct certificates *c)
{
    struct signer ca = make(NULL, "test CA", NULL, -2 * DAY_S, DAY_S);
    struct signer other = make(NULL, "another CA", NULL, -2 * DAY_S, DAY_S);
    FILE *file;

    strcpy(c->folder, "/tmp/sagapost-tls-XXXXXX");
    assert_non_null(mkdtemp(c->folder));
    save(c, &ca, c->ca, "ca.pem");
    save(c, &other, c->other_ca, "other-ca.pem");
    make_and_save(c, &ca, "server", "DNS:localhost,IP:127.0.0.1,IP:::1", DAY_S, c->server,
                  c->server_key);
    make_and_save(c, &ca, "elsewhere", "DNS:elsewhere.example", DAY_S, c->elsewhere,
                  c->elsewhere_key);
    make_and_save(c, &ca, "server", "DNS:localhost,IP:127.0.0.1", -DAY_S, c->expired,
                  c->expired_key);
    make_and_save(c, &ca, "client", NULL, DAY_S, c->client, c->client_key);
    file = create(c, c->nonsense, "nonsense.pem");
    fputs("this is no certificate\n", file);
    assert_int_equal(fclose(file), 0);
    signer_free(&ca);
    signer_free(&other);
}

void certificates_remove(struct certificates *c)
{
    const char *files[] = {c->ca,        c->other_ca,    c->server, c->server_key,    c->elsewhere,
                           c->expired,   c->expired_key, c->client, c->elsewhere_key, c->nonsense,
                           c->client_key};

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        unlink(files[i]);
    rmdir(c->folder);
}
