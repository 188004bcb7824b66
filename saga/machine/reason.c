/* reason.c: why a saga aborts and why it is stuck, in one text for people. */
#include "saga/machine/table.h"

#include <stdio.h>
#include <string.h>

static const char mark[] = "stuck: ";
static const char separator[] = "; ";

#define PART_BYTES (SAGA_REASON_BYTES_MAX / 2 - sizeof(mark) - sizeof(separator))

struct parts {
    char abort[PART_BYTES]; /* why it aborts; "" */
    char stuck[PART_BYTES]; /* why it is stuck; "" */
};

/* Where the stuck part begins, its mark included; the end of the text when there is none. */
static size_t stuck_part(const char *reason)
{
    size_t found = strlen(reason);
    for (const char *at = reason; (at = strstr(at, mark)) != NULL; at++) {
        bool after_abort = at - reason >= 2 && memcmp(at - 2, separator, 2) == 0;
        if (at == reason || after_abort)
            found = (size_t)(at - reason);
    }
    return found;
}

static size_t abort_part_bytes(const char *reason)
{
    size_t stuck = stuck_part(reason);
    return reason[stuck] && stuck > 0 ? stuck - strlen(separator) : stuck;
}

/* Copies what fits, and never half a character: PostgreSQL would refuse it. */
static void copy(char out[PART_BYTES], const char *text, size_t bytes)
{
    if (bytes >= PART_BYTES) {
        bytes = PART_BYTES - 1;
        while (bytes > 0 && ((unsigned char)text[bytes] & 0xc0) == 0x80)
            bytes--;
    }
    memcpy(out, text, bytes);
    out[bytes] = '\0';
}

static void compose(char out[PART_BYTES], const char *subject, const char *text)
{
    char whole[SAGA_REASON_BYTES_MAX];
    snprintf(whole, sizeof(whole), "%s%s%s", subject, text ? ": " : "", text ? text : "");
    copy(out, whole, strlen(whole));
}

static void take_apart(const char *reason, struct parts *ret_parts)
{
    size_t stuck = stuck_part(reason);
    size_t skip = reason[stuck] ? strlen(mark) : 0;
    copy(ret_parts->abort, reason, abort_part_bytes(reason));
    copy(ret_parts->stuck, reason + stuck + skip, strlen(reason + stuck + skip));
}

static void store(struct instance *instance, const struct parts *parts)
{
    snprintf(instance->reason, sizeof(instance->reason), "%s%s%s%s", parts->abort,
             *parts->abort && *parts->stuck ? separator : "", *parts->stuck ? mark : "",
             parts->stuck);
}

void reason_name_unit(char out[REASON_SUBJECT_BYTES], const struct unit *unit)
{
    if (step_fans_out(unit->step) && unit->element != ELEMENT_ALL)
        snprintf(out, REASON_SUBJECT_BYTES, "%s[%d]", unit->step->name, unit->element);
    else
        snprintf(out, REASON_SUBJECT_BYTES, "%s", unit->step->name);
}

void reason_set_abort(struct instance *instance, const char *subject, const char *text)
{
    struct parts parts;
    take_apart(instance->reason, &parts);
    if (*parts.abort)
        return;
    compose(parts.abort, subject, text);
    store(instance, &parts);
}

void reason_set_stuck(struct instance *instance, const char *subject, const char *text)
{
    struct parts parts;
    take_apart(instance->reason, &parts);
    compose(parts.stuck, subject, text);
    store(instance, &parts);
}

void reason_clear_abort(struct instance *instance)
{
    struct parts parts;
    take_apart(instance->reason, &parts);
    *parts.abort = '\0';
    store(instance, &parts);
}

void reason_clear_stuck(struct instance *instance)
{
    instance->reason[abort_part_bytes(instance->reason)] = '\0';
}
