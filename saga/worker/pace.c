#include "saga/worker/pace.h"

void pace_started(struct pace *pace, int count)
{
    pace->count = count;
}

void pace_finished(struct pace *pace, int64_t now_us, int64_t pause_us)
{
    pace->not_before_us = pace->count > 1 ? now_us + pause_us : now_us;
}

bool pace_holds(const struct pace *pace, int64_t now_us, bool is_full)
{
    return !is_full && now_us < pace->not_before_us;
}
