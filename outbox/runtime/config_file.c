/* The INI file, read with libinih.
 *
 * libinih takes a line that is longer than its buffer for two lines, an indented line for more of
 * the value above, and ' ;' inside a value for a comment, which cuts a password in two without a
 * word. Its switches turn the last two off; lines are handed over by our own reader, which refuses
 * what does not fit. */
#include "outbox/runtime/config_private.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX (256 * 1024)
#define LINE_BYTES_MAX 16384

struct reader {
    struct config *config;
    const char *path;
    const char *next, *end;
    int line; /* the one handed over last */
    int result;
    struct error *error;
};

/* The next line into line[capacity]; NULL at the end, and where reading must stop. */
static char *read_line(char *line, int capacity, void *data)
{
    struct reader *reader = data;
    const char *newline;
    size_t bytes;

    if (reader->result || reader->next == reader->end)
        return NULL;
    newline = memchr(reader->next, '\n', (size_t)(reader->end - reader->next));
    bytes = (size_t)((newline ? newline + 1 : reader->end) - reader->next);
    reader->line++;
    if (bytes >= (size_t)capacity) {
        reader->result = error_set(reader->error, ERROR_USAGE, RETRY_NEVER,
                                   "%s:%d: a line must be shorter than %d bytes", reader->path,
                                   reader->line, capacity);
        return NULL;
    }
    if (memchr(reader->next, 0, bytes)) {
        reader->result = error_set(reader->error, ERROR_USAGE, RETRY_NEVER,
                                   "%s:%d: holds a NUL byte", reader->path, reader->line);
        return NULL;
    }
    memcpy(line, reader->next, bytes);
    line[bytes] = 0;
    reader->next += bytes;
    return line;
}

/* libinih's convention: 1 goes on, 0 is an error. */
static int take_key(void *data, const char *section, const char *name, const char *text)
{
    struct reader *reader = data;
    struct config_value *value = config_find(reader->config, name, strlen(name));
    char suggestion[128];

    (void)section; /* sections only group */
    /* The file cannot name itself. */
    if (!value || strcmp(name, "config") == 0)
        reader->result =
            error_set(reader->error, ERROR_USAGE, RETRY_NEVER, "%s:%d: unknown key '%.64s'%s",
                      reader->path, reader->line, name,
                      config_suggest(reader->config, "", name, suggestion, sizeof(suggestion)));
    else if (value->line)
        reader->result = error_set(reader->error, ERROR_USAGE, RETRY_NEVER,
                                   "%s:%d: '%s' is given in line %d already", reader->path,
                                   reader->line, name, value->line);
    else if (config_value_set(value, text, CONFIG_FILE, reader->line, reader->error))
        reader->result =
            error_context(reader->error, "%s:%d: %s", reader->path, reader->line, name);
    else
        value->line = reader->line; /* also where a flag is stronger */
    return !reader->result;
}

int config_read_file_text(struct config *config, const char *path, const char *text, size_t bytes,
                          struct error *error)
{
    struct reader reader = {
        .config = config, .path = path, .next = text, .end = text + bytes, .error = error};
    int bad_line;

    ini_allow_multiline = false;
    ini_allow_inline_comments = false;
    ini_stop_on_first_error = true;
    ini_use_stack = true;
    ini_max_line = LINE_BYTES_MAX;
    bad_line = ini_parse_stream(read_line, &reader, take_key, &reader);
    if (reader.result)
        return reader.result;
    if (bad_line)
        return error_set(error, ERROR_USAGE, RETRY_NEVER,
                         "%s:%d: must be 'name = value', '[section]' or a comment after # or ;",
                         path, bad_line);
    return 0;
}

/* All of the file, NUL-terminated. */
static int read_all(const char *path, int fd, char *bytes, size_t *ret_count, struct error *error)
{
    size_t count = 0;

    while (count <= FILE_BYTES_MAX) {
        ssize_t got = read(fd, bytes + count, FILE_BYTES_MAX + 1 - count);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            error_set_errno(error, errno, RETRY_NEVER, "reading %s", path);
            return ERROR_SYSTEM;
        }
        if (!got) {
            *ret_count = count;
            return 0;
        }
        count += (size_t)got;
    }
    return error_set(error, ERROR_USAGE, RETRY_NEVER, "%s is larger than %d bytes", path,
                     FILE_BYTES_MAX);
}

int config_read_file(struct config *config, const char *path, struct error *error)
{
    char *bytes;
    size_t count = 0;
    int result;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd < 0)
        return error_set_errno(error, errno, RETRY_NEVER, "opening %s", path);
    bytes = malloc(FILE_BYTES_MAX + 1);
    if (!bytes)
        result = error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory to read %s", path);
    else
        result = read_all(path, fd, bytes, &count, error);
    if (!result)
        result = config_read_file_text(config, path, bytes, count, error);
    if (bytes)
        explicit_bzero(bytes, FILE_BYTES_MAX + 1); /* it may hold passwords */
    free(bytes);
    close(fd);
    return result;
}
