#include "config_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static const struct setting program_settings[] = {
    {"window", SETTING_COUNT, "2000", 1, 65535, SETTING_RELOAD, "messages in flight"},
    {"offset", SETTING_COUNT, "-5", 0, 0, 0, "any integer"},
    {"lease-ttl", SETTING_MILLIS, "5s", 500, 60000, 0, "a silent relay is replaced"},
    {"pause", SETTING_MILLIS, "0", 0, 0, SETTING_RELOAD, "no range"},
    {"buffer", SETTING_BYTES, "64kB", 1024, 1 << 30, 0, "a buffer"},
    {"name", SETTING_TEXT, NULL, 0, 0, SETTING_RELOAD, "a | text"},
    {0}};
static const struct setting shared_settings[] = {
    {"amqp", SETTING_URI, "amqp://guest:guest@127.0.0.1/", 0, 0, SETTING_SECRET, "RabbitMQ"},
    {"postgres", SETTING_TEXT, "", 0, 0, SETTING_SECRET, "PostgreSQL"},
    {"verify", SETTING_BOOL, "on", 0, 0, 0, "check the certificate"},
    {"format", SETTING_CHOICE, "logfmt", 0, 0, SETTING_RELOAD, "of the log", "logfmt|json|log"},
    {"listen", SETTING_ADDRESS, NULL, 0, 0, 0, "HTTP"},
    {0}};
const struct setting *const config_tables[] = {program_settings, shared_settings, NULL};

static const struct setting required_settings[] = {
    {"share", SETTING_COUNT, NULL, 0, 9, SETTING_REQUIRED | SETTING_RELOAD, "which"}, {0}};
const struct setting *const required_tables[] = {required_settings, NULL};

struct config *config;
char path[] = "/proc/self/fd/0000000000"; /* of the file in memory */
int file = -1;

int config_test_create(void **state)
{
    struct error error;

    (void)state;
    file = memfd_create("settings", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    return file < 0 || config_create(&config, config_tables, &error);
}

int config_test_destroy(void **state)
{
    (void)state;
    config_destroy(config);
    config = NULL;
    close(file);
    return 0;
}

void write_file_bytes(const char *text, size_t bytes)
{
    assert_int_equal(ftruncate(file, 0), 0);
    assert_int_equal(pwrite(file, text, bytes, 0), bytes);
}

void write_file(const char *text)
{
    write_file_bytes(text, strlen(text));
}

int load(const char *line, const char *const *variables, struct error *error)
{
    static char words[1024];
    static char *argv[32];
    char *environment[8] = {NULL};
    int argc = 0, i;
    char *word, *rest = words;

    snprintf(words, sizeof(words), "program %s", line);
    while ((word = strtok_r(rest, " ", &rest)))
        argv[argc++] = strcmp(word, "FILE") == 0 ? path : word;
    for (i = 0; variables && variables[i]; i++)
        environment[i] = (char *)(uintptr_t)variables[i];
    return config_load(config, argc, argv, environment, error);
}
