#include "outbox/relay/reading/wakeup_machine.h"

#include <assert.h>
#include <stddef.h>

static const struct {
    enum wakeup_state state;
    enum wakeup_event event;
    enum wakeup_state next;
    unsigned acts;
    const char *because;
} transitions[] = {
    /* clang-format off */
    {WAKEUP_AWAKE,       WAKEUP_FOUND,         WAKEUP_AWAKE,       WAKEUP_LOOK,        "there may be more"},
    {WAKEUP_AWAKE,       WAKEUP_FOUND_FEW,     WAKEUP_PAUSING,     WAKEUP_ARM_PAUSE,   "a moment's rows cost one look together"},
    {WAKEUP_AWAKE,       WAKEUP_EMPTY,         WAKEUP_TRYING,      WAKEUP_TRY,         "nothing to do: whoever writes from here on shall say so"},

    {WAKEUP_TRYING,      WAKEUP_GRANTED,       WAKEUP_LAST_LOOK,   WAKEUP_LOOK,        "what committed before the lock has told nobody"},
    {WAKEUP_TRYING,      WAKEUP_REFUSED,       WAKEUP_PAUSING,     WAKEUP_ARM_PAUSE,   "a writer is in flight: its rows come in a moment"},
    {WAKEUP_TRYING,      WAKEUP_REFUSED_AGAIN, WAKEUP_QUEUED,      WAKEUP_QUEUE | WAKEUP_ARM_GROWING, "that writer stays open: from here on others notify"},

    {WAKEUP_PAUSING,     WAKEUP_TIMER,         WAKEUP_AWAKE,       WAKEUP_LOOK,        "the moment is over"},
    {WAKEUP_PAUSING,     WAKEUP_NOTIFIED,      WAKEUP_AWAKE,       WAKEUP_LOOK,        "somebody says so"},

    {WAKEUP_LAST_LOOK,   WAKEUP_FOUND,         WAKEUP_AWAKE,       WAKEUP_UNLOCK | WAKEUP_LOOK, "no sleep"},
    {WAKEUP_LAST_LOOK,   WAKEUP_FOUND_FEW,     WAKEUP_PAUSING,     WAKEUP_UNLOCK | WAKEUP_ARM_PAUSE, "no sleep yet"},
    {WAKEUP_LAST_LOOK,   WAKEUP_NOTIFIED,      WAKEUP_AWAKE,       WAKEUP_UNLOCK | WAKEUP_LOOK, "it committed after the look had begun"},
    {WAKEUP_LAST_LOOK,   WAKEUP_EMPTY,         WAKEUP_ASLEEP,      WAKEUP_ARM_FALLBACK, "every later writer notifies"},

    {WAKEUP_ASLEEP,      WAKEUP_NOTIFIED,      WAKEUP_AWAKE,       WAKEUP_UNLOCK | WAKEUP_LOOK, "a writer committed"},
    {WAKEUP_ASLEEP,      WAKEUP_TIMER,         WAKEUP_LAST_LOOK,   WAKEUP_LOOK,        "writers may skip the notification; and nothing is certain"},

    {WAKEUP_QUEUED,      WAKEUP_FOUND,         WAKEUP_QUEUED,      WAKEUP_LOOK,        "there may be more"},
    {WAKEUP_QUEUED,      WAKEUP_FOUND_FEW,     WAKEUP_QUEUED,      WAKEUP_ARM_PAUSE,   "a moment's rows cost one look together"},
    {WAKEUP_QUEUED,      WAKEUP_FOUND_OFTEN,   WAKEUP_AWAKE,       WAKEUP_DROP_2 | WAKEUP_LOOK, "writers are busy: they shall not pay for notifications"},
    {WAKEUP_QUEUED,      WAKEUP_EMPTY,         WAKEUP_QUEUED,      WAKEUP_ARM_GROWING, "writers from before the queue do not notify"},
    {WAKEUP_QUEUED,      WAKEUP_TIMER,         WAKEUP_QUEUED,      WAKEUP_LOOK,        "the pause is over"},
    {WAKEUP_QUEUED,      WAKEUP_NOTIFIED,      WAKEUP_QUEUED,      WAKEUP_LOOK,        "a writer committed"},
    {WAKEUP_QUEUED,      WAKEUP_GRANTED_2,     WAKEUP_LAST_LOOK_2, WAKEUP_LOOK,        "the open writer has ended"},
    {WAKEUP_QUEUED,      WAKEUP_LOST_2,        WAKEUP_AWAKE,       WAKEUP_LOOK,        "the place in the queue is lost"},

    {WAKEUP_LAST_LOOK_2, WAKEUP_FOUND,         WAKEUP_AWAKE,       WAKEUP_UNLOCK_2 | WAKEUP_LOOK, "no sleep"},
    {WAKEUP_LAST_LOOK_2, WAKEUP_NOTIFIED,      WAKEUP_AWAKE,       WAKEUP_UNLOCK_2 | WAKEUP_LOOK, "it committed after the look had begun"},
    {WAKEUP_LAST_LOOK_2, WAKEUP_EMPTY,         WAKEUP_ASLEEP_2,    WAKEUP_ARM_FALLBACK, "every later writer notifies"},
    {WAKEUP_LAST_LOOK_2, WAKEUP_LOST_2,        WAKEUP_AWAKE,       WAKEUP_LOOK,        "the lock is lost"},

    {WAKEUP_ASLEEP_2,    WAKEUP_NOTIFIED,      WAKEUP_AWAKE,       WAKEUP_UNLOCK_2 | WAKEUP_LOOK, "a writer committed"},
    {WAKEUP_ASLEEP_2,    WAKEUP_TIMER,         WAKEUP_LAST_LOOK_2, WAKEUP_LOOK,        "writers may skip the notification; and nothing is certain"},
    {WAKEUP_ASLEEP_2,    WAKEUP_LOST_2,        WAKEUP_AWAKE,       WAKEUP_LOOK,        "the lock is lost"},
    /* clang-format on */
};

struct wakeup_step wakeup_decide(enum wakeup_state state, enum wakeup_event event)
{
    assert(state < WAKEUP_STATES && event < WAKEUP_EVENTS);
    for (size_t i = 0; i < sizeof(transitions) / sizeof(transitions[0]); i++)
        if (transitions[i].state == state && transitions[i].event == event)
            return (struct wakeup_step){transitions[i].next, transitions[i].acts,
                                        transitions[i].because};
    if (event == WAKEUP_FOUND_OFTEN || event == WAKEUP_FOUND_FEW)
        return wakeup_decide(state, WAKEUP_FOUND);
    return (struct wakeup_step){state, 0, "it means nothing here"};
}

const char *wakeup_state_name(enum wakeup_state state)
{
    static const char *const names[WAKEUP_STATES] = {
        [WAKEUP_OFF] = "off",
        [WAKEUP_AWAKE] = "awake",
        [WAKEUP_TRYING] = "trying",
        [WAKEUP_PAUSING] = "pausing",
        [WAKEUP_LAST_LOOK] = "last look",
        [WAKEUP_ASLEEP] = "asleep",
        [WAKEUP_QUEUED] = "queued",
        [WAKEUP_LAST_LOOK_2] = "last look on the second connection",
        [WAKEUP_ASLEEP_2] = "asleep on the second connection",
    };

    assert(state < WAKEUP_STATES);
    return names[state];
}
