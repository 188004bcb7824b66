#include "outbox/relay/reading/publish_after.h"
#include "outbox/runtime/log.h"

#include <stdio.h>
#include <string.h>

#define OPENING "replicated("

static int refuse(const char *publish_after, const char *why, struct error *error)
{
    return error_set(error, ERROR_USAGE, RETRY_NEVER,
                     "publish-after is '%s': %s; allowed are 'flushed' and 'replicated(name, ...)'",
                     publish_after, why);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* The names between the parentheses, which `text` begins behind and `end` is. */
static int parse_names(struct publish_after *after, const char *text, const char *end,
                       const char *publish_after, struct error *error)
{
    for (;;) {
        const char *comma = memchr(text, ',', (size_t)(end - text));
        const char *last = comma ? comma : end;

        while (text < last && is_blank(*text))
            text++;
        while (last > text && is_blank(last[-1]))
            last--;
        if (last == text)
            return refuse(publish_after, "a name is empty", error);
        if (last - text >= PUBLISH_AFTER_NAME_BYTES)
            return refuse(publish_after, "a name has more than 63 bytes", error);
        if (after->count == PUBLISH_AFTER_NAMES_MAX)
            return refuse(publish_after, "there are more than 8 names", error);
        (void)snprintf(after->names[after->count++], PUBLISH_AFTER_NAME_BYTES, "%.*s",
                       (int)(last - text), text);
        if (!comma)
            return 0;
        text = comma + 1;
    }
}

int publish_after_parse(struct publish_after *after, const char *publish_after, struct error *error)
{
    struct publish_after parsed = {0};
    size_t bytes = strlen(publish_after);
    int failed = 0;

    if (strcmp(publish_after, "flushed") != 0) {
        if (strncmp(publish_after, OPENING, strlen(OPENING)) != 0 ||
            publish_after[bytes - 1] != ')')
            return refuse(publish_after, "it is neither", error);
        failed = parse_names(&parsed, publish_after + strlen(OPENING), publish_after + bytes - 1,
                             publish_after, error);
    }
    if (failed >= 0)
        *after = parsed;
    return failed;
}

int64_t publish_after_still_wait(struct publish_after_wait *wait, int64_t now_us,
                                 const char *missing, struct stats *stats)
{
    if (!wait->since_us)
        wait->since_us = now_us;
    if (!wait->said && now_us - wait->since_us >= PUBLISH_AFTER_PATIENCE_US) {
        log_warn("rows wait for the standbys of publish-after",
                 LOG_STR("not_connected", missing ? missing : ""));
        metric_set(stats->waiting_for_standbys, 1);
        wait->said = true;
    }
    return now_us - wait->since_us;
}

void publish_after_end_wait(struct publish_after_wait *wait, struct stats *stats)
{
    if (wait->said) {
        log_info("the wait for the standbys is over");
        metric_set(stats->waiting_for_standbys, 0);
    }
    *wait = (struct publish_after_wait){0};
}
