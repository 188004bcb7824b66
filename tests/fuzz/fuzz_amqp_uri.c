/* URIs and lists of them: whatever is said about one, the password is not, and what is taken can be
 * read. */
#include "outbox/amqp/uri.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take_list(const char *text, size_t size)
{
    struct error error = {0};
    struct uri_list list;
    size_t all = 0;

    if (uri_list_parse(&list, text, &error)) {
        assert(error.code == ERROR_USAGE && error.message[0]);
        return;
    }
    assert(list.count > 0 && list.count <= URI_LIST_MAX);
    for (int i = 0; i < list.count; i++) {
        assert(!strcmp(list.uris[i].vhost, list.uris[0].vhost));
        all += strlen(list.uris[i].host);
    }
    assert(all <= size + (size_t)list.count * strlen("localhost"));
    uri_list_free(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error error = {0};
    struct uri uri;
    char *text = malloc(size + 1);

    if (!text)
        return 0;
    if (size)
        memcpy(text, data, size);
    text[size] = 0;
    if (uri_parse(&uri, text, &error)) {
        assert(error.code == ERROR_USAGE && error.message[0]);
    } else {
        size_t all = strlen(uri.user) + strlen(uri.password) + strlen(uri.host) + strlen(uri.vhost);

        assert(uri.port > 0);
        assert(uri.host[0]);
        assert(strlen(uri.vhost) <= 255 && strlen(uri.host) <= 255);
        assert(uri.trailing_slash == !uri.vhost[0]);
        assert(all <= size + strlen("guestguestlocalhost/"));
        uri_free(&uri);
    }
    take_list(text, size);
    free(text);
    return 0;
}
