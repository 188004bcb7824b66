/* headers_read: any bytes of outbox.message.headers; what was taken keeps its limits, and points
 * nowhere but into the input and the text beside it. */
#include "outbox/relay/publishing/headers.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static bool lies_in(const char *text, size_t bytes, const char *start, size_t size)
{
    return text >= start && bytes <= size && (size_t)(text - start) <= size - bytes;
}

static void check_text(const struct headers *headers, struct broker_text text, const char *json,
                       size_t bytes)
{
    assert(lies_in(text.text, text.bytes, json, bytes) ||
           lies_in(text.text, text.bytes, headers->text, headers->text_bytes));
}

static void check(const struct headers *headers, const char *json, size_t bytes)
{
    assert(headers->count >= 0 && headers->count <= HEADERS_MAX);
    assert(headers->text_bytes <= sizeof(headers->text));
    for (int i = 0; i < headers->count; i++) {
        const struct broker_header *header = &headers->list[i];
        char name[256];

        check_text(headers, header->name, json, bytes);
        assert(header->name.bytes < sizeof(name)); /* a short string of AMQP */
        if (header->kind == BROKER_TEXT)
            check_text(headers, header->text, json, bytes);
        memcpy(name, header->name.text, header->name.bytes);
        name[header->name.bytes] = '\0';
        if (strlen(name) == header->name.bytes)
            assert(headers_has(headers, name));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct headers headers;
    struct error error = {0};
    const char *json = (const char *)data;

    if (headers_read(&headers, json, bytes, &error))
        assert(error.code < 0 && error.retry == RETRY_POISON && error.message[0]);
    else
        check(&headers, json, bytes);
    return 0;
}
