/* fixture.h: one saga, driven event by event, in few words.
 *
 * A saga is described as in sagas.h; its steps are a, b, c ... Every event is followed by
 * machine_check. `sent` and `notes` are of the last event, as text: "action a r1, probe b r1". */
#ifndef TESTS_MACHINE_FIXTURE_H
#define TESTS_MACHINE_FIXTURE_H

#include "saga/machine/machine.h"

#define FIXTURE_TEXT_BYTES 1024

struct fixture {
    struct plan plan;
    struct instance instance;
    struct machine_decision decision;
    int64_t now_us;
    char sent[FIXTURE_TEXT_BYTES];
    char notes[FIXTURE_TEXT_BYTES];
};

extern struct fixture fixture;

void start(const char *saga);
/* Every step has a condition. */
void start_with_conditions(const char *saga);
/* The same after the plan was changed. */
void start_again(void);

/* Applies an event whose now_us is filled in. */
enum machine_verdict apply(struct machine_event event);

/* A reply to the command that is in flight, or was last: of its round and attempt. */
enum machine_verdict reply(char name, enum saga_operation operation, enum machine_event_type type);
enum machine_verdict reply_of(char name, enum saga_operation operation,
                              enum machine_event_type type, int round, int attempt);

#define ok(step)           reply(step, OPERATION_ACTION, EVENT_OK)
#define failed(step)       reply(step, OPERATION_ACTION, EVENT_FAILED)
#define transient(step)    reply(step, OPERATION_ACTION, EVENT_TRANSIENT)
#define executed(step)     reply(step, OPERATION_PROBE, EVENT_EXECUTED)
#define not_executed(step) reply(step, OPERATION_PROBE, EVENT_NOT_EXECUTED)
#define in_doubt(step)     reply(step, OPERATION_PROBE, EVENT_IN_DOUBT)
#define undo_ok(step)      reply(step, OPERATION_UNDO, EVENT_OK)
#define undo_failed(step)  reply(step, OPERATION_UNDO, EVENT_FAILED)

/* Time goes on to when the step is due, and its timer fires. */
enum machine_verdict due(char name);
enum machine_verdict deadline(void);

/* name '-': the saga. */
enum machine_verdict intent(enum machine_event_type type, char name);

/* Of a fan-out: its list has so many elements; what an element answers, and its status. */
enum machine_verdict spread(char name, int count);
enum machine_verdict reply_element(char name, int index, enum saga_operation operation,
                                   enum machine_event_type type);
struct step_status *element(char name, int index);

/* "RUNNING", "STUCK/forward"; then the state of each step, of a fan-out "SENT(SUCCEEDED SENT)". */
void expect(const char *saga, const char *steps);
void expect_sent(const char *sent);
void expect_because(const char *part); /* of the last decision */
void expect_reason(const char *reason);
void expect_noted(const char *note); /* "aborting", "retry a" */

struct step_status *step(char name);

#endif
