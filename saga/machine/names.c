/* names.c: enum values as they stand in the database and on the wire. */
#include "saga/machine/table.h"

#include <assert.h>
#include <string.h>

static const char *const saga_state_names[SAGA_STATE_COUNT] = {
    [SAGA_RUNNING] = "RUNNING",
    [SAGA_COMPLETING] = "COMPLETING",
    [SAGA_ABORTING] = "ABORTING",
    [SAGA_COMPENSATING] = "COMPENSATING",
    [SAGA_STUCK] = "STUCK",
    [SAGA_SUCCEEDED] = "SUCCEEDED",
    [SAGA_COMPENSATED] = "COMPENSATED",
    [SAGA_CLOSED] = "CLOSED",
};

static const char *const step_state_names[STEP_STATE_COUNT] = {
    [STEP_WAITING] = "WAITING",
    [STEP_READY] = "READY",
    [STEP_SENT] = "SENT",
    [STEP_RETRY_WAIT] = "RETRY_WAIT",
    [STEP_PARKED] = "PARKED",
    [STEP_PROBING] = "PROBING",
    [STEP_UNKNOWN] = "UNKNOWN",
    [STEP_SUCCEEDED] = "SUCCEEDED",
    [STEP_FAILED] = "FAILED",
    [STEP_SKIPPED] = "SKIPPED",
    [STEP_CANCELLED] = "CANCELLED",
    [STEP_UNDO_READY] = "UNDO_READY",
    [STEP_UNDO_SENT] = "UNDO_SENT",
    [STEP_UNDO_RETRY_WAIT] = "UNDO_RETRY_WAIT",
    [STEP_UNDONE] = "UNDONE",
    [STEP_UNDO_EMPTY] = "UNDO_EMPTY",
    [STEP_UNDO_STUCK] = "UNDO_STUCK",
};

static const char *const saga_phase_names[SAGA_PHASE_COUNT] = {
    [PHASE_FORWARD] = "forward",
    [PHASE_BACKWARD] = "backward",
    [PHASE_IN_DOUBT] = "in_doubt",
    [PHASE_PROTOCOL] = "protocol",
};

static const char *const operation_names[] = {
    [OPERATION_ACTION] = "action",
    [OPERATION_UNDO] = "undo",
    [OPERATION_PROBE] = "probe",
};

static const char *const kind_names[] = {
    [KIND_COMPENSABLE] = "compensable",
    [KIND_READ_ONLY] = "read_only",
    [KIND_PIVOT] = "pivot",
    [KIND_RETRIABLE] = "retriable",
};

static const char *const via_names[] = {
    [VIA_COMMAND] = "command", [VIA_TIMER] = "timer", [VIA_SIGNAL] = "signal",
    [VIA_SAGA] = "saga",       [VIA_LOCK] = "lock",
};

static const char *const event_names[MACHINE_EVENT_COUNT] = {
    [EVENT_OK] = "ok",
    [EVENT_FAILED] = "failed",
    [EVENT_TRANSIENT] = "transient",
    [EVENT_ERROR] = "error",
    [EVENT_EXECUTED] = "executed",
    [EVENT_NOT_EXECUTED] = "not_executed",
    [EVENT_IN_DOUBT] = "in_doubt",
    [EVENT_EXPIRED] = "expired",
    [EVENT_DUE] = "due",
    [EVENT_DEADLINE] = "deadline",
    [EVENT_UNMAPPABLE] = "unmappable",
    [EVENT_CONDITION_FALSE] = "condition_false",
    [EVENT_SPREAD] = "spread",
    [EVENT_DENIED] = "denied",
    [EVENT_CANCEL] = "cancel",
    [EVENT_PAUSE] = "pause",
    [EVENT_RESUME] = "resume",
    [EVENT_RETRY] = "retry",
    [EVENT_SKIP] = "skip",
    [EVENT_MARK_UNDONE] = "mark_undone",
    [EVENT_ABANDON] = "abandon",
    [EVENT_SIGNAL] = "signal",
    [EVENT_GRANT] = "grant",
    [EVENT_TAKE_BACK] = "take_back",
    [EVENT_MIGRATE] = "migrate",
};

static const char *const step_event_names[STEP_EVENT_COUNT] = {
    [ON_DONE] = "done",
    [ON_NO] = "failed",
    [ON_NEVER] = "fenced",
    [ON_LATER] = "transient",
    [ON_UNCLEAR] = "in doubt",
    [ON_EXPIRED] = "expired",
    [ON_UNDONE] = "undone",
    [ON_UNDO_EMPTY] = "undo empty",
    [ON_UNDO_NO] = "undo failed",
    [ON_UNDO_LATER] = "undo transient",
    [ON_UNDO_EXPIRED] = "undo expired",
    [ON_DUE] = "due",
    [ON_UNMAPPABLE] = "unmappable",
    [ON_UNDO_UNMAPPABLE] = "undo unmappable",
    [ON_CONDITION_FALSE] = "condition false",
    [ON_SPREAD] = "spread",
    [ON_DENIED] = "denied",
    [ON_RETRY] = "retry",
    [ON_SKIP] = "skip",
    [ON_MARK_UNDONE] = "mark undone",
    [ON_SIGNAL] = "signal",
    [ON_GRANT] = "grant",
    [ON_RUN] = "run",
    [ON_RELEASE] = "release",
    [ON_ABORT] = "abort",
    [ON_STOP_PIVOT] = "stop pivot",
    [ON_UNDO] = "undo",
    [ON_FENCE] = "fence",
};

static const char *const saga_event_names[SAGA_EVENT_COUNT] = {
    [ON_CANCEL] = "cancel",
    [ON_DEADLINE] = "deadline",
    [ON_PAUSE] = "pause",
    [ON_RESUME] = "resume",
    [ON_RETRY_STUCK] = "retry",
    [ON_ABANDON] = "abandon",
    [ON_TAKE_BACK] = "take back",
    [ON_MIGRATE] = "migrate",
    [ON_VIOLATION] = "violation",
    [FOUND_FORWARD] = "forward",
    [FOUND_PAST_PIVOT] = "past the pivot",
    [FOUND_UNSETTLED] = "unsettled",
    [FOUND_UNDOING] = "undoing",
    [FOUND_STUCK_FORWARD] = "stuck forward",
    [FOUND_STUCK_BACKWARD] = "stuck backward",
    [FOUND_IN_DOUBT] = "in doubt",
    [FOUND_VIOLATION] = "contradiction",
    [FOUND_ALL_PASSED] = "all passed",
    [FOUND_ALL_UNDONE] = "all undone",
};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const char *name_of(const char *const *names, size_t count, size_t value)
{
    assert(value < count);
    return names[value];
}

/* The value with this name, or -1. */
static int value_of(const char *const *names, size_t count, const char *text, size_t bytes)
{
    for (size_t value = 0; value < count; value++) {
        if (names[value] && strlen(names[value]) == bytes && memcmp(names[value], text, bytes) == 0)
            return (int)value;
    }
    return -1;
}

const char *saga_state_name(enum saga_state state)
{
    return name_of(saga_state_names, COUNT_OF(saga_state_names), state);
}

const char *step_state_name(enum step_state state)
{
    return name_of(step_state_names, COUNT_OF(step_state_names), state);
}

const char *saga_phase_name(enum saga_phase phase)
{
    return name_of(saga_phase_names, COUNT_OF(saga_phase_names), phase);
}

const char *saga_operation_name(enum saga_operation operation)
{
    return name_of(operation_names, COUNT_OF(operation_names), operation);
}

const char *step_kind_name(enum step_kind kind)
{
    return name_of(kind_names, COUNT_OF(kind_names), kind);
}

const char *step_via_name(enum step_via via)
{
    return name_of(via_names, COUNT_OF(via_names), via);
}

const char *machine_event_name(enum machine_event_type type)
{
    return name_of(event_names, COUNT_OF(event_names), type);
}

const char *step_event_name(enum step_event event)
{
    return name_of(step_event_names, COUNT_OF(step_event_names), event);
}

const char *saga_event_name(enum saga_event event)
{
    return name_of(saga_event_names, COUNT_OF(saga_event_names), event);
}

int saga_state_parse(const char *text, size_t bytes)
{
    return value_of(saga_state_names, COUNT_OF(saga_state_names), text, bytes);
}

int step_state_parse(const char *text, size_t bytes)
{
    return value_of(step_state_names, COUNT_OF(step_state_names), text, bytes);
}

int saga_phase_parse(const char *text, size_t bytes)
{
    return bytes == 0 ? PHASE_NONE
                      : value_of(saga_phase_names, COUNT_OF(saga_phase_names), text, bytes);
}

int saga_operation_parse(const char *text, size_t bytes)
{
    return value_of(operation_names, COUNT_OF(operation_names), text, bytes);
}

int step_kind_parse(const char *text, size_t bytes)
{
    return value_of(kind_names, COUNT_OF(kind_names), text, bytes);
}

int step_via_parse(const char *text, size_t bytes)
{
    return value_of(via_names, COUNT_OF(via_names), text, bytes);
}

int machine_event_parse(const char *text, size_t bytes)
{
    return value_of(event_names, COUNT_OF(event_names), text, bytes);
}
