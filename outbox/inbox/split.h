/* split.h: a batch that fails is halved until the culprit is alone. Pure.
 *
 *     split_start(&split, count);
 *     while (split_range(&split, &first, &range_count)) {
 *         do items first .. first + range_count - 1;
 *         worked:  split_done(&split);
 *         failed:  if (!split_failed(&split)) item `first` is the culprit, and is passed over now;
 *     }
 *
 * Ranges come from left to right, so items keep their order among those that work. A batch of n
 * with one culprit takes at most 2 log2(n) + 1 tries. split_culprit says what becomes of one that
 * failed alone. */
#ifndef SAGAPOST_INBOX_SPLIT_H
#define SAGAPOST_INBOX_SPLIT_H

#include "outbox/runtime/error.h"
#include <stdint.h>

#define SPLIT_DEPTH_MAX 32

struct split {
    int depth; /* ranges on the stack; the top one is next */
    int firsts[SPLIT_DEPTH_MAX];
    int counts[SPLIT_DEPTH_MAX];
};

void split_start(struct split *split, int count);
bool split_range(const struct split *split, int *ret_first, int *ret_count);
void split_done(struct split *split);
bool split_failed(struct split *split);

enum culprit {
    CULPRIT_AGAIN,   /* the same again, after *ret_pause_us */
    CULPRIT_GIVE_UP, /* no retry of ours helps: answer for it, or set it apart */
};

/* `tries` counts its failures alone, this one included. */
enum culprit split_culprit(const struct error *failure, unsigned tries, int64_t *ret_pause_us);

#endif
