#include "saga/worker/decide.h"

#include "saga/worker/body.h"
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAILURE_BYTES_MAX 1604 /* 400 characters of UTF-8: lock_instances.sql */

void decide_begin(struct decisions *decisions, struct arena *arena, int64_t now_us, uint64_t seed)
{
    decisions->arena = arena;
    decisions->now_us = now_us;
    decisions->seed = seed;
    decisions->command_count = decisions->commands_from = 0;
    decisions->note_count = decisions->notes_from = 0;
}

void decide_free(struct decisions *decisions)
{
    free(decisions->commands);
    free(decisions->notes);
    *decisions = (struct decisions){0};
}

/* Room for `more` behind `count`. The arrays keep their size, so a steady load allocates nothing.
 */
static int reserve(void **array, int *capacity, int count, int more, size_t item_bytes,
                   struct error *error)
{
    if (count + more <= *capacity) {
        return 0;
    }
    int wanted = *capacity > 0 ? *capacity : 256;
    while (wanted < count + more) {
        wanted *= 2;
    }
    void *grown = realloc(*array, (size_t)wanted * item_bytes);
    if (!grown) {
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for decisions");
    }
    *array = grown;
    *capacity = wanted;
    return 0;
}

/* splitmix64: seeds of the same batch must differ, or all retries of it would come at one time. */
static uint64_t next_seed(struct decisions *decisions)
{
    uint64_t z = (decisions->seed += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static int merge_member(struct decisions *decisions, const char **members, const char *step,
                        const struct json_span *value, struct error *error)
{
    static const struct json_span null_value = {"null", 4, JSON_NULL};
    const struct json_span *what = value->text ? value : &null_value;
    assert(what->bytes <= INT32_MAX);
    /* Names of steps are [a-z][a-z0-9_]*: nothing in them needs an escape. */
    const char *merged =
        arena_format(decisions->arena, "%s%s\"%s\": %.*s", *members ? *members : "",
                     *members ? ", " : "", step, (int)what->bytes, what->text);
    if (!merged) {
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER,
                         "the outputs of a batch are over the limit");
    }
    *members = merged;
    return 0;
}

/* The outputs of a fan-out are an array, in the order of its list, from the time on that this is
 * known: until an element has succeeded there is null. */
static int make_room_for_elements(struct decisions *decisions, struct fact *fact,
                                  const struct machine_event *event, struct error *error)
{
    char nulls[SAGA_ELEMENTS_MAX * 6 + 3]; /* "null, " each */
    size_t bytes = 0;
    nulls[bytes++] = '[';
    for (int i = 0; i < event->count && i < SAGA_ELEMENTS_MAX; i++) {
        bytes += (size_t)snprintf(nulls + bytes, sizeof nulls - bytes, "%snull", i > 0 ? ", " : "");
    }
    nulls[bytes++] = ']';
    const struct json_span array = {nulls, bytes, JSON_ARRAY};
    return merge_member(decisions, &fact->outputs, fact->plan->steps[event->step].name, &array,
                        error);
}

static int keep_element_output(struct decisions *decisions, struct fact *fact,
                               const struct happening *happening, struct error *error)
{
    const struct machine_event *event = &happening->event;
    const struct json_span *output = &happening->output;
    struct element_output *kept = arena_alloc(decisions->arena, sizeof *kept);
    const char *text = arena_format(
        decisions->arena, "[\"%s\", %d, %.*s]", fact->plan->steps[event->step].name, event->element,
        output->text ? (int)output->bytes : 4, output->text ? output->text : "null");
    if (!kept || !text) {
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER,
                         "the outputs of a batch are over the limit");
    }
    *kept = (struct element_output){.text = text};
    if (!fact->element_outputs) {
        fact->element_outputs_end = &fact->element_outputs;
    }
    *fact->element_outputs_end = kept;
    fact->element_outputs_end = &kept->next;
    fact->element_output_bytes += strlen(text) + 2;
    return 0;
}

/* The last error of a step is kept: of an element it says of which. */
static int keep_error(struct decisions *decisions, struct fact *fact,
                      const struct happening *happening, struct error *error)
{
    const struct plan_step *step = &fact->plan->steps[happening->event.step];
    struct json_span told = happening->error;
    if (step_fans_out(step)) {
        const char *cursor = NULL;
        struct json_span name, value;
        bool is_empty = !json_next(&told, &cursor, &name, &value);
        const char *text =
            arena_format(decisions->arena, "{\"element\": %d%s%.*s", happening->event.element,
                         is_empty ? "" : ", ", (int)told.bytes - 1, told.text + 1);
        if (!text) {
            return error_set(error, ERROR_NO_MEMORY, RETRY_LATER,
                             "the outputs of a batch are over the limit");
        }
        told = (struct json_span){text, strlen(text), JSON_OBJECT};
    }
    return merge_member(decisions, &fact->errors, step->name, &told, error);
}

/* From the time a command was sent to its answer. The row keeps when the answer is due, not when
 * the command went out; due less the timeout is that, unless a backoff set it otherwise. */
static int64_t answer_latency_us(const struct fact *fact, const struct machine_event *event)
{
    bool is_reply = event->type <= EVENT_EXPIRED;
    if (!is_reply || event->step < 0) {
        return -1;
    }
    const struct step_status *status =
        machine_status(fact->plan, &fact->instance, event->step, event->element);
    /* A child saga is due when it is to be reminded. */
    if (!status || fact->plan->steps[event->step].via == VIA_SAGA) {
        return -1;
    }
    if ((status->state != STEP_SENT && status->state != STEP_UNDO_SENT) || status->due_us == 0) {
        return -1;
    }
    int64_t latency_us =
        event->now_us - (status->due_us - fact->plan->steps[event->step].timeout_us);
    return latency_us > 0 ? latency_us : 0;
}

/* The saga goes by the other plan from here on, and signals that were kept are looked at by it.
 * What was noted names steps by their index, so nothing may be left that was noted by the plan
 * before. */
static int move_to_other_plan(struct decisions *decisions, struct fact *fact,
                              const struct happening *happening, struct error *error)
{
    struct machine_decision *decision = &decisions->scratch;
    const char *because =
        arena_format(decisions->arena, "version %d to %d: %s", fact->plan->version,
                     happening->event.to->version, decision->because);
    if (!because) {
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER,
                         "the decisions of a batch are over the limit");
    }
    for (int i = 0; i < decision->note_count; i++) {
        if (strcmp(decision->notes[i].event, "migrated") == 0) {
            decision->notes[i].because = because;
        }
    }
    fact->plan = happening->event.to;
    fact->definition_id = happening->definition_id;
    fact->moved = true;
    fact->wants_signals = true;
    return 0;
}

static int collect_left_lock(struct decisions *decisions, struct fact *fact, int step,
                             struct error *error)
{
    enum step_state state = fact->instance.steps[step].state;
    if (fact->plan->steps[step].via != VIA_LOCK || state == STEP_PARKED ||
        state == STEP_SUCCEEDED) {
        return 0;
    }
    struct left_lock *left = arena_alloc(decisions->arena, sizeof *left);
    if (!left) {
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER,
                         "the decisions of a batch are over the limit");
    }
    *left = (struct left_lock){.step = fact->plan->steps[step].name, .next = fact->left_locks};
    fact->left_locks = left;
    return 0;
}

static int collect(struct decisions *decisions, struct fact *fact,
                   const struct happening *happening, struct error *error)
{
    const struct machine_decision *decision = &decisions->scratch;
    int rc = reserve((void **)&decisions->commands, &decisions->command_capacity,
                     decisions->command_count, decision->command_count, sizeof *decisions->commands,
                     error);
    if (rc == 0) {
        rc = reserve((void **)&decisions->notes, &decisions->note_capacity, decisions->note_count,
                     decision->note_count, sizeof *decisions->notes, error);
    }
    if (rc < 0) {
        return rc;
    }
    for (int i = 0; i < decision->command_count; i++) {
        const struct machine_command *command = &decision->commands[i];
        decisions->commands[decisions->command_count++] = (struct decided_command){
            .fact = happening->fact,
            .command = *command,
            .unsent = step_waits(&fact->plan->steps[command->step]) || command_asks_list(command)};
        fact->asks_condition |=
            command_asks_condition(fact->plan, command) || command_asks_list(command);
    }
    bool error_told = false;
    for (int i = 0; i < decision->note_count; i++) {
        int step = decision->notes[i].step;
        fact->wants_signals |= step >= 0 && fact->instance.steps[step].state == STEP_PARKED &&
                               fact->plan->steps[step].via == VIA_SIGNAL;
        rc = step >= 0 ? collect_left_lock(decisions, fact, step, error) : 0;
        if (rc < 0) {
            return rc;
        }
        struct decided_note *note = &decisions->notes[decisions->note_count++];
        *note = (struct decided_note){.fact = happening->fact,
                                      .note = decision->notes[i],
                                      .actor = happening->actor,
                                      .reason = happening->reason};
        if (!error_told && happening->error.text && decision->notes[i].step >= 0 &&
            decision->notes[i].step == happening->event.step) {
            note->error = happening->error;
            error_told = true;
        }
    }
    return 0;
}

/* What a reply brought belongs to the saga: an output once its step has succeeded by it, an error
 * always, so that people see what a step is tried again for. */
static int keep_what_it_brought(struct decisions *decisions, struct fact *fact,
                                const struct happening *happening, struct error *error)
{
    const struct machine_event *event = &happening->event;
    if (event->step < 0) {
        return 0;
    }
    const char *step = fact->plan->steps[event->step].name;
    bool is_output = event->operation != OPERATION_UNDO &&
                     (event->type == EVENT_OK || event->type == EVENT_EXECUTED ||
                      event->type == EVENT_SIGNAL || event->type == EVENT_GRANT);
    if (event->type == EVENT_SPREAD) {
        return make_room_for_elements(decisions, fact, event, error);
    }
    if (is_output && step_fans_out(&fact->plan->steps[event->step])) {
        return keep_element_output(decisions, fact, happening, error);
    }
    if (is_output) {
        return merge_member(decisions, &fact->outputs, step, &happening->output, error);
    }
    if (happening->error.text) {
        return keep_error(decisions, fact, happening, error);
    }
    return 0;
}

static bool has_signals(const struct plan *plan)
{
    bool found = false;
    for (int i = 0; i < plan->step_count; i++) {
        found |= plan->steps[i].via == VIA_SIGNAL;
    }
    return found;
}

/* Of a step that was not done and never will be its participant cannot say why, as it keeps nothing
 * of what it rolled back. The saga can: what the step met when it was tried. */
static bool recall_failure(const struct fact *fact, const struct machine_event *event,
                           char out[SAGA_REASON_BYTES_MAX / 2])
{
    const struct json_limits limits = {.bytes_max = SIZE_MAX, .depth_max = 2};
    struct json_span root;
    struct json_span failure;
    struct error error;
    if (event->type != EVENT_NOT_EXECUTED || event->reason || !fact->failures || event->step < 0 ||
        json_check(fact->failures, fact->failures_bytes, &limits, &root, &error) < 0) {
        return false;
    }
    const struct plan_step *step = &fact->plan->steps[event->step];
    char name[BODY_NAME_BYTES_MAX + 16];
    char text[FAILURE_BYTES_MAX];
    char both[FAILURE_BYTES_MAX + sizeof "not done: "];
    (void)snprintf(name, sizeof name, step_fans_out(step) ? "%s[%d]" : "%s", step->name,
                   event->element);
    if (!json_member(&root, name, &failure) || failure.kind != JSON_STRING ||
        json_string_copy(&failure, text, sizeof text, &error) < 0) {
        return false;
    }
    (void)snprintf(both, sizeof both, "not done: %s", text);
    body_copy_text(out, SAGA_REASON_BYTES_MAX / 2, both);
    return true;
}

int decide_apply(struct decisions *decisions, struct fact *facts, struct happening *happening,
                 struct error *error)
{
    struct fact *fact = &facts[happening->fact];
    struct machine_event *event = &happening->event;
    assert(event->step >= -1 && event->step < fact->plan->step_count);
    assert(event->type != EVENT_MIGRATE || !fact->changed);
    event->now_us = decisions->now_us;
    event->seed = next_seed(decisions);
    happening->latency_us = answer_latency_us(fact, event);

    bool was_stuck = fact->instance.state == SAGA_STUCK;
    char recalled[SAGA_REASON_BYTES_MAX / 2];
    bool recalls = recall_failure(fact, event, recalled);
    event->reason = recalls ? recalled : event->reason;
    machine_apply(fact->plan, &fact->instance, event, &decisions->scratch);
    event->reason = recalls ? NULL : event->reason;

    happening->verdict = decisions->scratch.verdict;
    happening->because = decisions->scratch.because;
    if (happening->verdict != VERDICT_APPLIED) {
        happening->latency_us = -1;
        return 0;
    }
    if (event->type == EVENT_MIGRATE && move_to_other_plan(decisions, fact, happening, error) < 0) {
        return error->code;
    }
    fact->changed = true;
    fact->revision++;
    fact->became_stuck = fact->instance.state == SAGA_STUCK && (fact->became_stuck || !was_stuck);
    fact->ended = saga_state_ended(fact->instance.state);
    fact->wants_signals |= fact->ended && has_signals(fact->plan);
    int rc = keep_what_it_brought(decisions, fact, happening, error);
    return rc < 0 ? rc : collect(decisions, fact, happening, error);
}

void decide_finish(const struct decisions *decisions, struct fact *fact)
{
    int64_t wanted_us = fact->ended ? 0 : machine_wake_us(fact->plan, &fact->instance);
    int64_t wake_us = fact->wake_us;
    bool is_over = fact->ended || wake_us == 0 || wake_us <= decisions->now_us;
    bool comes_earlier = wanted_us != 0 && wanted_us < wake_us;
    if (is_over || comes_earlier) {
        wake_us = wanted_us;
    }
    if (wake_us != fact->wake_us) {
        fact->wake_us = wake_us;
        fact->wake_changed = true;
        fact->changed = true;
    }
}
