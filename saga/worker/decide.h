/* decide.h: from facts to decisions, without I/O.
 *
 * Facts are the sagas of a batch as they were locked and read; a happening is one thing that has
 * come about for one of them (a reply, a time, an intent). decide_apply runs the machine over one
 * happening after the other, each on the state the one before it has left, and collects what is to
 * be written and sent. decide_finish then says for each saga what its row becomes.
 *
 *     decide_begin(&decisions, arena, now_us, seed);
 *     for each happening: decide_apply(&decisions, facts, &happening, error);
 *     decide_finish(&decisions, &facts[i]);
 *     ... write, send; a command that could not be built comes back as a happening; again ...
 *
 * What was collected before `commands_from` and `notes_from` has been written already: the writer
 * moves them on. Texts live in the arena of the batch, or in the messages and rows they came from.
 */
#ifndef SAGAPOST_WORKER_DECIDE_H
#define SAGAPOST_WORKER_DECIDE_H

#include "outbox/runtime/arena.h"
#include "outbox/runtime/json_scan.h"
#include "outbox/runtime/uuid.h"
#include "saga/machine/machine.h"

struct element_output {
    const char *text;
    struct element_output *next;
};

/* A step that no longer waits for its lock, and has not got it; by its name, since another plan may
 * not know it. */
struct left_lock {
    const char *step;
    struct left_lock *next;
};

struct fact {
    struct uuid id;
    int definition_id;
    const struct plan *plan;
    int64_t revision; /* rises with every happening that changes something, so that an intent that
                         expects an earlier one sees it */
    int64_t wake_us;  /* of the row, then what it becomes; 0: none */
    int64_t due_us;   /* when the machine wanted to be woken, as it was read; 0: never */
    bool changed;     /* the row has to be written */
    bool wake_changed;
    bool ended;
    bool became_stuck;
    bool wants_signals;  /* signals that were kept are to be looked at: a step waits, or it ended */
    bool moved;          /* to another definition: its row has to say so before it is written */
    bool asks_condition; /* a condition, or a list, is to be asked for before anything else happens
                            to it */
    const char *failures; /* what its steps have met, {"step": "code: message"}; NULL: nothing */
    size_t failures_bytes;
    const char *outputs; /* members to merge in, `"step": value, ...`; NULL: none */
    const char *errors;
    /* Outputs of elements of fan-outs, `["step", element, value]` each, the first that came first.
     */
    struct element_output *element_outputs, **element_outputs_end;
    size_t element_output_bytes;
    struct left_lock *left_locks;
    struct instance instance; /* at the end: its elements are not cleared for each saga */
};

struct happening {
    int fact;
    struct machine_event event; /* now_us and seed are filled in by decide_apply */
    struct json_span output, error;
    const char *actor, *reason; /* of an intent */
    int definition_id;          /* of EVENT_MIGRATE: the one of event.to */

    /* what came of it */
    enum machine_verdict verdict;
    const char *because;
    int64_t latency_us; /* from the command to this answer of it; -1: this answered none */
};

struct decided_command {
    int fact;
    struct machine_command command;
    bool unsent; /* as was told to the machine then, or nothing is ever sent for it */
};

struct decided_note {
    int fact;
    struct machine_note note;
    struct json_span error;
    const char *actor, *reason;
};

struct decisions {
    struct arena *arena;
    int64_t now_us;
    uint64_t seed;
    struct decided_command *commands;
    int command_count, command_capacity, commands_from;
    struct decided_note *notes;
    int note_count, note_capacity, notes_from;
    struct machine_decision scratch;
};

void decide_begin(struct decisions *decisions, struct arena *arena, int64_t now_us, uint64_t seed);
void decide_free(struct decisions *decisions);

/* ERROR_NO_MEMORY when the arena's limit is reached; then nothing of the batch may be written. */
int decide_apply(struct decisions *decisions, struct fact *facts, struct happening *happening,
                 struct error *error) MUST_CHECK;

/* Sets wake_us. It only moves earlier, so that the row's update stays HOT, until its time has come;
 * then it becomes what the machine wants next. */
void decide_finish(const struct decisions *decisions, struct fact *fact);

#endif
