/* config: any bytes as the file of settings. */
#include "outbox/runtime/config_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const struct setting rows[] = {
    {"window", SETTING_COUNT, "2000", 1, 65535, SETTING_RELOAD, "a count"},
    {"pause", SETTING_MILLIS, "5s", 500, 60000, 0, "a duration"},
    {"long-pause", SETTING_MILLIS, NULL, 0, 0, 0, "a duration"},
    {"buffer", SETTING_BYTES, "64kB", 1024, 1 << 30, 0, "a size"},
    {"verify", SETTING_BOOL, "on", 0, 0, 0, "a switch"},
    {"format", SETTING_CHOICE, "logfmt", 0, 0, 0, "a choice", "logfmt|json"},
    {"listen", SETTING_ADDRESS, NULL, 0, 0, 0, "an address"},
    {"amqp", SETTING_URI, NULL, 0, 0, SETTING_SECRET, "a secret"},
    {"name", SETTING_TEXT, NULL, 0, 0, 0, "a text"},
    {0}};
static const struct setting *const tables[] = {rows, NULL};

static void look_at(void *data, const char *name, const char *text, const char *source)
{
    (void)data;
    assert(name && strcmp(source, "file") == 0);
    if (text)
        assert(strlen(text) < 16384);
    else
        assert(strcmp(name, "amqp") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct error error = {0};
    struct config *config;
    char *text;

    if (config_create(&config, tables, NULL))
        abort();
    text = malloc(bytes ? bytes : 1);
    memcpy(text, data, bytes);
    if (config_read_file_text(config, "file", text, bytes, &error))
        assert(error.code == ERROR_USAGE && error.retry == RETRY_NEVER &&
               strncmp(error.message, "file:", 5) == 0);
    free(text);
    assert(config_count(config, "window") >= 1 && config_count(config, "window") <= 65535);
    assert(config_us(config, "pause") >= 500000 && config_us(config, "pause") <= 60000000);
    config_each_given(config, look_at, NULL);
    config_destroy(config);
    return 0;
}
