/* step_guards.h: what the rows of step_table.c ask of a step before they are taken. A guard changes
 * nothing. */
#ifndef SAGAPOST_MACHINE_STEP_GUARDS_H
#define SAGAPOST_MACHINE_STEP_GUARDS_H

#include "saga/machine/table.h"

static inline const struct plan_step *plan_step(const struct context *context)
{
    return context->unit.step;
}

static inline struct step_status *status(const struct context *context)
{
    return context->status;
}

static inline bool held(const struct context *context)
{
    return context->facts.held;
}

/* The fan-out itself, its list not known. */
static inline bool fans_out(const struct context *context)
{
    return context->unit.element == ELEMENT_ALL;
}

static inline bool is_element(const struct context *context)
{
    return step_fans_out(plan_step(context)) && !fans_out(context);
}

static inline bool is_timer(const struct context *context)
{
    return plan_step(context)->via == VIA_TIMER;
}

static inline bool is_signal(const struct context *context)
{
    return plan_step(context)->via == VIA_SIGNAL;
}

static inline bool is_lock(const struct context *context)
{
    return plan_step(context)->via == VIA_LOCK;
}

static inline bool goes_on_without(const struct context *context)
{
    return plan_step(context)->skip_on_timeout;
}

static inline bool lock_goes_on_without(const struct context *context)
{
    return is_lock(context) && goes_on_without(context);
}

static inline bool is_child(const struct context *context)
{
    return plan_step(context)->via == VIA_SAGA;
}

static inline bool read_only(const struct context *context)
{
    return plan_step(context)->kind == KIND_READ_ONLY;
}

static inline bool retriable(const struct context *context)
{
    return plan_step(context)->kind == KIND_RETRIABLE;
}

static inline bool retriable_list(const struct context *context)
{
    return retriable(context) && fans_out(context);
}

static inline bool retriable_and_held(const struct context *context)
{
    return retriable(context) && held(context);
}

static inline bool compensable(const struct context *context)
{
    return plan_step(context)->kind == KIND_COMPENSABLE;
}

static inline bool pivot(const struct context *context)
{
    return plan_step(context)->kind == KIND_PIVOT;
}

static inline bool compensable_in_abort(const struct context *context)
{
    return compensable(context) && context->facts.aborting;
}

static inline bool never_sent(const struct context *context)
{
    return status(context)->round == 0;
}

/* The command that the worker reports about is the first: nothing was ever sent. */
static inline bool first_command(const struct context *context)
{
    return status(context)->round == 1 && status(context)->attempt == 1 &&
           context->event->attempt <= 1;
}

static inline bool undo_never_sent(const struct context *context)
{
    return status(context)->undo_round == 0;
}

/* What reminds a child saga is not counted as an attempt. */
static inline bool first_undo_command(const struct context *context)
{
    return status(context)->undo_round == 1 && status(context)->attempt == 1 && !is_child(context);
}

/* Of an undo that is stuck: none was sent, or the last was refused, so that nothing is out. */
static inline bool no_undo_out(const struct context *context)
{
    return status(context)->attempt == 0;
}

static inline bool no_undo_out_and_held(const struct context *context)
{
    return no_undo_out(context) && held(context);
}

static inline bool attempts_left(const struct context *context)
{
    return status(context)->attempt < plan_step(context)->retry.max;
}

static inline bool retriable_attempts_left(const struct context *context)
{
    return retriable(context) && attempts_left(context);
}

/* Of an undo or a probe. */
static inline bool undo_attempts_left(const struct context *context)
{
    return status(context)->attempt < plan_step(context)->undo_retry.max;
}

static inline bool may_ask_again(const struct context *context)
{
    return is_child(context) || undo_attempts_left(context);
}

/* No further attempt of an action: the saga aborts, or would but for its pivot in flight. */
static inline bool giving_up(const struct context *context)
{
    return context->facts.aborting || (pivot(context) && context->instance->cancel_requested);
}

static inline bool fence_open(const struct context *context)
{
    return status(context)->due_us != 0;
}

static inline bool fence_attempts_left(const struct context *context)
{
    return fence_open(context) && undo_attempts_left(context);
}

/* Skipped by an operator after it was sent: what comes late tells what really happened, as long as
 * no undo has begun that would have to come after its own. */
static inline bool skipped_after_sending(const struct context *context)
{
    bool undo_may_have_begun = context->facts.aborting && !context->facts.unsettled;
    return status(context)->round > 0 && !undo_may_have_begun;
}

#endif
