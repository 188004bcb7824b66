#include "saga/worker/intents.h"

void intents_skip(struct intents *intents, int64_t id, int64_t until_us)
{
    int at = intents->next;
    for (int i = 0; i < INTENTS_SKIPPED_MAX; i++) {
        if (intents->ids[i] == id) {
            at = i;
        }
    }
    intents->ids[at] = id;
    intents->until_us[at] = until_us;
    if (at == intents->next) {
        intents->next = (intents->next + 1) % INTENTS_SKIPPED_MAX;
    }
}

int intents_skipped(const struct intents *intents, int64_t now_us,
                    int64_t ret_ids[INTENTS_SKIPPED_MAX])
{
    int count = 0;
    for (int i = 0; i < INTENTS_SKIPPED_MAX; i++) {
        if (intents->until_us[i] > now_us) {
            ret_ids[count++] = intents->ids[i];
        }
    }
    return count;
}

void intents_failed(struct intents *intents, int count)
{
    intents->one_by_one = count;
}

int intents_limit(struct intents *intents, int limit)
{
    if (intents->one_by_one > 0) {
        intents->one_by_one--;
        return 1;
    }
    return limit;
}
