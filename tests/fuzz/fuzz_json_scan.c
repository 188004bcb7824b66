/* json_scan: any bytes; then what was taken is read, and taken again where it must be. */
#include "outbox/runtime/json_scan.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define BYTES_MAX ((size_t)1 << 16)

static void read_value(const struct json_span *value)
{
    char out[24];
    int64_t number;

    if (value->kind == JSON_STRING && !json_string_copy(value, out, sizeof(out), NULL))
        assert(strlen(out) < sizeof(out));
    if (value->kind == JSON_NUMBER && !json_int64(value, &number, NULL))
        assert(!memchr(value->text, '.', value->bytes));
}

static void read_members(const struct json_span *object)
{
    static const char *const names[] = {"", "a", "id", "\xc3\xbc", "\n"};
    struct json_span value;
    size_t i;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!json_member(object, names[i], &value))
            continue;
        assert(value.text > object->text && value.bytes > 0 &&
               value.text + value.bytes < object->text + object->bytes);
        read_value(&value);
    }
}

/* A document stays one as the item of an array. */
static void wrap(const char *text, size_t bytes)
{
    const struct json_limits wider = {.bytes_max = BYTES_MAX + 2, .depth_max = 17};
    struct json_span root;
    char *wrapped = malloc(bytes + 2);

    wrapped[0] = '[';
    memcpy(wrapped + 1, text, bytes);
    wrapped[bytes + 1] = ']';
    assert(!json_check(wrapped, bytes + 2, &wider, &root, NULL));
    assert(root.kind == JSON_ARRAY && root.bytes == bytes + 2);
    free(wrapped);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    const struct json_limits limits = {.bytes_max = BYTES_MAX, .depth_max = 16};
    struct json_span root;
    struct error error = {0};

    if (json_check((const char *)data, bytes, &limits, &root, &error)) {
        assert(error.code < 0 && error.retry == RETRY_POISON && error.message[0]);
        return 0;
    }
    assert(root.bytes > 0 && (const uint8_t *)root.text >= data &&
           (const uint8_t *)root.text + root.bytes <= data + bytes);
    read_value(&root);
    if (root.kind == JSON_OBJECT)
        read_members(&root);
    wrap((const char *)data, bytes);
    return 0;
}
