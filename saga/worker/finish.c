/* finish.c: what becomes of works when their transaction is over: acknowledged, tried again, or set
 * apart. */
#include "saga/worker/orchestrate_private.h"

#include "outbox/runtime/log.h"
#include <assert.h>
#include <string.h>

/* Another worker has the saga in hand, for the length of a batch. */
#define BUSY_PAUSE_US (5 * US_PER_MS)
/* A saga that cannot be driven is looked at again, in case somebody has mended it. */
#define UNREADABLE_PAUSE_US (60 * US_PER_S)
#define LATE_US             (100 * US_PER_MS)

static int64_t now_us(const struct orchestrate *orchestrate)
{
    return loop_now_us(orchestrate->worker->loop);
}

static int64_t database_us(const struct orchestrate *orchestrate)
{
    return timers_database_us(orchestrate->timers, now_us(orchestrate));
}

/* --- what was decided ------------------------------------------------------------------------- */

static void count_decisions(struct orchestrate *orchestrate)
{
    const struct worker_metrics *metrics = &orchestrate->worker->metrics;
    const struct decisions *decisions = batch_decisions(orchestrate->batch);
    for (int i = 0; i < decisions->command_count; i++) {
        const struct machine_command *command = &decisions->commands[i].command;
        if (decisions->commands[i].unsent) {
            continue;
        }
        metric_add(metrics->commands_sent[command->operation], 1);
        if (command->attempt > 1 && command->operation != OPERATION_PROBE) {
            metric_add(metrics->retries, 1);
        } else if (command->operation == OPERATION_UNDO) {
            metric_add(metrics->undos, 1);
        }
    }
    metric_add(metrics->unmappable, batch_unmappable(orchestrate->batch));
}

static void tell_stuck(const struct fact *fact)
{
    char id[UUID_TEXT_BYTES];
    uuid_format(&fact->id, id);
    log_warn("a saga is stuck", LOG_STR("saga", id), LOG_STR("definition", fact->plan->definition),
             LOG_STR("phase", saga_phase_name(fact->instance.phase)));
}

/* Arms what comes before the next look at the database, and counts. */
static void settle_facts(struct orchestrate *orchestrate)
{
    int count;
    const struct fact *facts = batch_facts(orchestrate->batch, &count);
    int64_t horizon_us = database_us(orchestrate) + 2 * orchestrate->worker->settings.sweep_us;
    for (int i = 0; i < count; i++) {
        const struct fact *fact = &facts[i];
        if (fact->wake_us != 0 && fact->wake_us < horizon_us &&
            (fact->wake_changed || orchestrate->job == JOB_TIMERS)) {
            (void)timers_arm(orchestrate->timers, &fact->id, fact->wake_us);
        }
        if (fact->ended) {
            plan_cache_count_ended(orchestrate->plans,
                                   plan_cache_find(orchestrate->plans, fact->definition_id),
                                   fact->instance.state);
        }
        if (fact->became_stuck) {
            tell_stuck(fact);
        }
    }
    if (batch_has_reopened(orchestrate->batch)) {
        orchestrate->intents_due_us = 0;
    }
}

static void observe_latency(struct orchestrate *orchestrate, const struct work *work)
{
    if (work->happening.latency_us >= 0) {
        int count;
        const struct fact *fact = &batch_facts(orchestrate->batch, &count)[work->happening.fact];
        metric_observe(plan_cache_find(orchestrate->plans, fact->definition_id)->latency,
                       (double)work->happening.latency_us / US_PER_S);
    }
}

/* --- replies ---------------------------------------------------------------------------------- */

static void settle_reply(struct orchestrate *orchestrate, struct work *work)
{
    const struct worker_metrics *metrics = &orchestrate->worker->metrics;
    switch (work->result) {
    case WORK_DONE:
        if (work->happening.verdict == VERDICT_IGNORED) {
            metric_add(metrics->replies_ignored, 1);
        }
        observe_latency(orchestrate, work);
        held_settle(orchestrate->held, work->message);
        break;
    case WORK_GONE:
        metric_add(metrics->replies_unknown_saga, 1);
        held_settle(orchestrate->held, work->message);
        break;
    case WORK_BUSY:
        metric_add(metrics->sagas_busy, 1);
        held_put_back(orchestrate->held, work->message, now_us(orchestrate) + BUSY_PAUSE_US);
        break;
    case WORK_NONSENSE:
    case WORK_OPEN:
        orchestrate_refuse(orchestrate, work->message,
                           work->detail ? work->detail : "it was not decided");
        break;
    }
}

static void reply_failed(struct orchestrate *orchestrate, struct work *work,
                         const struct error *failure)
{
    int64_t pause_us;
    if (split_culprit(failure, ++work->message->tries, &pause_us) == CULPRIT_GIVE_UP) {
        log_failure(LOG_LEVEL_ERROR, "a reply cannot be applied", failure);
        orchestrate_refuse(orchestrate, work->message, "it cannot be applied");
        return;
    }
    log_failure(LOG_LEVEL_WARN, "a reply could not be applied, it is tried again", failure,
                LOG_INT("tries", work->message->tries));
    held_put_back(orchestrate->held, work->message, now_us(orchestrate) + pause_us);
}

/* --- timers and stalled sagas ----------------------------------------------------------------- */

static void wake_again(struct orchestrate *orchestrate, const struct work *work, int64_t pause_us)
{
    int64_t at_us = database_us(orchestrate) + pause_us;
    timers_defer(orchestrate->timers, &work->saga_id, at_us);
    (void)timers_arm(orchestrate->timers, &work->saga_id, at_us);
}

static void settle_timer(struct orchestrate *orchestrate, const struct work *work)
{
    const struct worker_metrics *metrics = &orchestrate->worker->metrics;
    char id[UUID_TEXT_BYTES];
    uuid_format(&work->saga_id, id);
    if (work->result == WORK_BUSY) {
        metric_add(metrics->sagas_busy, 1);
        wake_again(orchestrate, work, BUSY_PAUSE_US);
    } else if (work->result == WORK_NONSENSE) {
        log_error("a saga cannot be driven", LOG_STR("saga", id), LOG_STR("why", work->detail));
        wake_again(orchestrate, work, UNREADABLE_PAUSE_US);
    } else if (work->result == WORK_DONE && work->happening.verdict == VERDICT_APPLIED) {
        int count;
        const struct fact *fact = &batch_facts(orchestrate->batch, &count)[work->happening.fact];
        int64_t late_us = work->happening.event.now_us - fact->due_us;
        metric_add(metrics->timers, 1);
        if (orchestrate->job == JOB_TIMERS && fact->due_us != 0 && late_us >= 0) {
            metric_observe(metrics->timer_lateness, (double)late_us / US_PER_S);
            metric_add(metrics->timers_late, late_us > LATE_US ? 1 : 0);
        }
    }
    if (orchestrate->job == JOB_STALLED && work->result == WORK_DONE) {
        metric_add(metrics->stalled, 1);
        log_error("a saga waited for nothing, and was woken", LOG_STR("saga", id));
    }
}

static void timer_failed(struct orchestrate *orchestrate, struct work *work,
                         const struct error *failure)
{
    char id[UUID_TEXT_BYTES];
    uuid_format(&work->saga_id, id);
    if (failure->retry != RETRY_RECONNECT) {
        log_failure(LOG_LEVEL_ERROR, "a saga's timer failed, it is tried again", failure,
                    LOG_STR("saga", id));
    }
    wake_again(orchestrate, work,
               failure->retry == RETRY_NOW ? 10 * BUSY_PAUSE_US : UNREADABLE_PAUSE_US / 6);
}

/* --- a range of works ------------------------------------------------------------------------- */

static void settle_range(struct orchestrate *orchestrate)
{
    int count;
    struct work *works = batch_works(orchestrate->batch, &count);
    const struct decisions *decisions = batch_decisions(orchestrate->batch);
    if (decisions->now_us != 0) {
        timers_sample_clock(orchestrate->timers, decisions->now_us,
                            batch_locked_at_us(orchestrate->batch));
    }
    count_decisions(orchestrate);
    settle_facts(orchestrate);
    for (int i = 0; i < count; i++) {
        if (orchestrate->job == JOB_REPLIES) {
            settle_reply(orchestrate, &works[i]);
        } else {
            settle_timer(orchestrate, &works[i]);
        }
    }
    split_done(&orchestrate->split);
}

/* Everything not done yet goes back: the connection is gone, and it was nobody's fault. Whether the
 * last COMMIT took place is unknown; what comes twice is ignored. */
static void put_all_back(struct orchestrate *orchestrate)
{
    int first;
    int count;
    while (split_range(&orchestrate->split, &first, &count)) {
        for (int i = first; i < first + count && orchestrate->job == JOB_REPLIES; i++) {
            held_put_back(orchestrate->held, orchestrate->works[i].message, 0);
        }
        split_done(&orchestrate->split);
    }
}

void orchestrate_range_finished(struct orchestrate *orchestrate, const struct error *failure)
{
    if (!failure) {
        settle_range(orchestrate);
        return;
    }
    if (failure->retry == RETRY_RECONNECT) {
        put_all_back(orchestrate);
        return;
    }
    metric_add(orchestrate->worker->metrics.batch_failures_replies, 1);
    int first = 0;
    int count = 0;
    bool found = split_range(&orchestrate->split, &first, &count);
    assert(found);
    log_failure(LOG_LEVEL_DEBUG, "a batch failed", failure, LOG_INT("works", count));
    if (split_failed(&orchestrate->split)) {
        return;
    }
    if (orchestrate->job == JOB_REPLIES) {
        reply_failed(orchestrate, &orchestrate->works[first], failure);
    } else {
        timer_failed(orchestrate, &orchestrate->works[first], failure);
    }
}

/* --- intents ---------------------------------------------------------------------------------- */

static void settle_intent(struct orchestrate *orchestrate, const struct work *work)
{
    const struct worker_metrics *metrics = &orchestrate->worker->metrics;
    char id[UUID_TEXT_BYTES];
    if (!batch_is_answered(work)) {
        if (work->result == WORK_BUSY) { /* else it was a signal, and is kept */
            int64_t again_us = now_us(orchestrate) + BUSY_PAUSE_US;
            intents_skip(&orchestrate->intents, work->intent_id, again_us);
            if (orchestrate->intents_due_us > again_us) {
                orchestrate->intents_due_us = again_us;
            }
        }
        return;
    }
    const char *answer;
    const char *detail;
    batch_answer(work, &answer, &detail);
    uuid_format(&work->saga_id, id);
    log_info("intent", LOG_STR("saga", id), LOG_INT("intent", work->intent_id),
             LOG_STR("verb", machine_event_name(work->happening.event.type)),
             LOG_STR("answer", answer), LOG_STR("detail", detail));
    metric_add(strcmp(answer, "applied") == 0 ? metrics->intents_applied : metrics->intents_refused,
               1);
}

void orchestrate_intents_finished(struct orchestrate *orchestrate, const struct error *failure)
{
    int count;
    struct work *works = batch_works(orchestrate->batch, &count);
    if (!failure) {
        count_decisions(orchestrate);
        settle_facts(orchestrate);
        for (int i = 0; i < count; i++) {
            settle_intent(orchestrate, &works[i]);
        }
        if (count == orchestrate->intents_limit) { /* there may be more */
            orchestrate->intents_due_us = 0;
        }
        return;
    }
    if (failure->retry == RETRY_RECONNECT) {
        return;
    }
    metric_add(orchestrate->worker->metrics.batch_failures_replies, 1);
    if (orchestrate->intents_limit > 1) {
        log_failure(LOG_LEVEL_DEBUG, "a batch failed", failure, LOG_INT("intents", count));
        intents_failed(&orchestrate->intents, count > 0 ? count : orchestrate->intents_limit);
        orchestrate->intents_due_us = 0;
        return;
    }
    log_failure(LOG_LEVEL_ERROR, "an intent failed, it is tried again", failure,
                LOG_INT("intent", count == 1 ? works[0].intent_id : 0));
    if (count == 1) {
        intents_skip(&orchestrate->intents, works[0].intent_id,
                     now_us(orchestrate) + UNREADABLE_PAUSE_US);
        orchestrate->intents_due_us = 0;
    }
}
