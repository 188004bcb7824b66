/* The migrations in the program: numbers without gaps, parts in order, each checksum that of its
 * text. */
#include "migrations/migrations.h"
#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void numbers_count_from_one(void **state)
{
    (void)state;
    for (int i = 0; i < MIGRATION_NEWEST; i++) {
        assert_int_equal(migrations[i].number, i + 1);
        assert_true(strlen(migrations[i].name) > 0);
    }
}

static void text_is_whole(void **state)
{
    (void)state;
    for (int i = 0; i < MIGRATION_NEWEST; i++) {
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned int digest_bytes = 0;
        char hex[2 * EVP_MAX_MD_SIZE + 1] = "";

        assert_int_equal(strlen(migrations[i].text), migrations[i].text_bytes);
        assert_int_equal(EVP_Digest(migrations[i].text, migrations[i].text_bytes, digest,
                                    &digest_bytes, EVP_sha256(), NULL),
                         1);
        for (unsigned int byte = 0; byte < digest_bytes; byte++) {
            snprintf(hex + 2 * byte, 3, "%02x", digest[byte]);
        }
        assert_string_equal(migrations[i].sha256, hex);
    }
}

/* The first line says the part; base comes first. */
static void parts_are_said(void **state)
{
    (void)state;
    assert_string_equal(migrations[0].part, "base");
    for (int i = 0; i < MIGRATION_NEWEST; i++) {
        char line[64];

        snprintf(line, sizeof(line), "-- part: %s\n", migrations[i].part);
        assert_memory_equal(migrations[i].text, line, strlen(line));
        assert_true(i == 0 || strcmp(migrations[i].part, "base") != 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_count_from_one),
        cmocka_unit_test(text_is_whole),
        cmocka_unit_test(parts_are_said),
    };
    return cmocka_run_group_tests_name("migrations", tests, NULL, NULL);
}
