#include "outbox/relay/reading/snapshot.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Digits at *text, which then stands behind them. */
static bool take_number(const char **text, uint64_t *ret_number)
{
    const char *at = *text;
    uint64_t number = 0;

    if (*at < '0' || *at > '9')
        return false;
    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(number, 10u, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*at - '0'), &number))
            return false;
    *text = at;
    *ret_number = number;
    return true;
}

static bool take_colon(const char **text)
{
    if (**text != ':')
        return false;
    ++*text;
    return true;
}

static int count_xids(const char *text)
{
    int count = *text ? 1 : 0;

    for (; *text && count <= SNAPSHOT_XIDS_MAX; text++)
        count += *text == ',';
    return count;
}

static bool parse(struct snapshot *snapshot, const char *text)
{
    int count;

    if (!take_number(&text, &snapshot->xmin) || !take_colon(&text) ||
        !take_number(&text, &snapshot->xmax) || !take_colon(&text))
        return false;
    if (snapshot->xmin == 0 || snapshot->xmax < snapshot->xmin)
        return false;
    count = count_xids(text);
    if (count > SNAPSHOT_XIDS_MAX)
        return false;
    snapshot->xip = calloc((size_t)count + 1, sizeof(*snapshot->xip));
    if (!snapshot->xip)
        return false;
    for (int i = 0; i < count; i++) {
        uint64_t xid;

        if ((i > 0 && *text++ != ',') || !take_number(&text, &xid))
            return false;
        if (xid < snapshot->xmin || xid >= snapshot->xmax || (i > 0 && xid <= snapshot->xip[i - 1]))
            return false;
        snapshot->xip[i] = xid;
    }
    snapshot->xip_count = count;
    return *text == '\0';
}

int snapshot_parse(struct snapshot **ret_snapshot, const char *text, struct error *error)
{
    struct snapshot *snapshot = calloc(1, sizeof(*snapshot));

    if (!snapshot || !(snapshot->text = strdup(text))) {
        free(snapshot);
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "a snapshot");
    }
    snapshot->references = 1;
    if (!parse(snapshot, text)) {
        snapshot_release(snapshot);
        return error_set(error, ERROR_PROTOCOL, RETRY_BUG, "not a snapshot: %.100s", text);
    }
    *ret_snapshot = snapshot;
    return 0;
}

struct snapshot *snapshot_hold(struct snapshot *snapshot)
{
    snapshot->references++;
    return snapshot;
}

void snapshot_release(struct snapshot *snapshot)
{
    if (!snapshot || --snapshot->references > 0)
        return;
    assert(snapshot->references == 0);
    free(snapshot->xip);
    free(snapshot->text);
    free(snapshot);
}

bool snapshot_in_progress(const struct snapshot *snapshot, uint64_t xid)
{
    int low = 0, high = snapshot->xip_count;

    while (low < high) {
        int middle = low + (high - low) / 2;

        if (snapshot->xip[middle] < xid)
            low = middle + 1;
        else
            high = middle;
    }
    return low < snapshot->xip_count && snapshot->xip[low] == xid;
}

int snapshot_ended_between(const struct snapshot *t1, const struct snapshot *t2, struct buffer *out)
{
    int count = 0;

    buffer_append_text(out, "{");
    for (int i = 0; i < t1->xip_count; i++)
        if (!snapshot_in_progress(t2, t1->xip[i]))
            buffer_append_format(out, "%s%" PRIu64, count++ ? "," : "", t1->xip[i]);
    buffer_append_text(out, "}");
    return count;
}
