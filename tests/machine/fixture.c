/* fixture.c: see fixture.h. */
#include "tests/machine/fixture.h"

#include "tests/machine/sagas.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct fixture fixture;

static int index_of(char name)
{
    return name == '-' ? -1 : name - 'a';
}

struct step_status *step(char name)
{
    assert_true(name >= 'a');
    return &fixture.instance.steps[name - 'a'];
}

static void append(char *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void append(char *text, const char *format, ...)
{
    va_list arguments;
    size_t at = strlen(text);
    if (at + sizeof(", ") > FIXTURE_TEXT_BYTES)
        return; /* of the largest sagas, only the beginning is told */
    if (at > 0)
        at += (size_t)snprintf(text + at, FIXTURE_TEXT_BYTES - at, ", ");
    va_start(arguments, format);
    vsnprintf(text + at, FIXTURE_TEXT_BYTES - at, format, arguments);
    va_end(arguments);
}

/* "a", or "a[1]" of an element. */
static const char *unit_name(int index, int element)
{
    static char name[32];
    const struct plan_step *plan_step = &fixture.plan.steps[index];
    bool is_element = step_fans_out(plan_step) && element != ELEMENT_ALL;
    snprintf(name, sizeof(name), is_element ? "%s[%d]" : "%s", plan_step->name, element);
    return name;
}

static void look(void)
{
    const struct machine_decision *decision = &fixture.decision;
    fixture.sent[0] = '\0';
    fixture.notes[0] = '\0';
    bool asks_list = false;
    for (int i = 0; i < decision->command_count; i++) {
        const struct machine_command *command = &decision->commands[i];
        asks_list |= command_asks_list(command);
        if (command_asks_list(command))
            append(fixture.sent, "list %s", unit_name(command->step, ELEMENT_ALL));
        else
            append(fixture.sent, "%s %s r%d", saga_operation_name(command->operation),
                   unit_name(command->step, command->element), command->round);
    }
    for (int i = 0; i < decision->note_count; i++) {
        const struct machine_note *note = &decision->notes[i];
        append(fixture.notes, "%s%s%s", note->event, note->step >= 0 ? " " : "",
               note->step >= 0 ? unit_name(note->step, note->element) : "");
    }
    const char *broken = asks_list ? NULL : machine_check(&fixture.plan, &fixture.instance);
    if (broken)
        fail_msg("%s", broken);
}

void start_again(void)
{
    fixture.now_us = 1000000;
    machine_start(&fixture.plan, &fixture.instance, fixture.now_us, &fixture.decision);
    look();
}

void start(const char *saga)
{
    saga_make(saga, &fixture.plan);
    for (int i = 0; i < fixture.plan.step_count; i++)
        fixture.plan.steps[i].has_condition = false;
    start_again();
}

void start_with_conditions(const char *saga)
{
    saga_make(saga, &fixture.plan);
    start_again();
}

enum machine_verdict apply(struct machine_event event)
{
    event.now_us = fixture.now_us;
    machine_apply(&fixture.plan, &fixture.instance, &event, &fixture.decision);
    look();
    return fixture.decision.verdict;
}

enum machine_verdict reply_of(char name, enum saga_operation operation,
                              enum machine_event_type type, int round, int attempt)
{
    return apply((struct machine_event){.type = type,
                                        .step = index_of(name),
                                        .operation = operation,
                                        .round = round,
                                        .attempt = attempt});
}

enum machine_verdict reply(char name, enum saga_operation operation, enum machine_event_type type)
{
    int round = operation == OPERATION_UNDO ? step(name)->undo_round : step(name)->round;
    return reply_of(name, operation, type, round, step(name)->attempt);
}

struct step_status *element(char name, int index)
{
    return &fixture.instance.elements[fixture.plan.steps[name - 'a'].elements_from + index];
}

enum machine_verdict spread(char name, int count)
{
    return apply((struct machine_event){
        .type = EVENT_SPREAD, .step = index_of(name), .element = ELEMENT_ALL, .count = count});
}

enum machine_verdict reply_element(char name, int index, enum saga_operation operation,
                                   enum machine_event_type type)
{
    const struct step_status *status = element(name, index);
    return apply((struct machine_event){.type = type,
                                        .step = index_of(name),
                                        .element = index,
                                        .operation = operation,
                                        .round = operation == OPERATION_UNDO ? status->undo_round
                                                                             : status->round,
                                        .attempt = status->attempt});
}

enum machine_verdict due(char name)
{
    if (step(name)->due_us > fixture.now_us)
        fixture.now_us = step(name)->due_us;
    return apply((struct machine_event){.type = EVENT_DUE, .step = index_of(name)});
}

enum machine_verdict deadline(void)
{
    if (fixture.instance.deadline_us > fixture.now_us)
        fixture.now_us = fixture.instance.deadline_us;
    return apply((struct machine_event){.type = EVENT_DEADLINE, .step = -1});
}

enum machine_verdict intent(enum machine_event_type type, char name)
{
    return apply((struct machine_event){.type = type, .step = index_of(name)});
}

void expect(const char *saga, const char *steps)
{
    char own_saga[64];
    char own_steps[FIXTURE_TEXT_BYTES] = "";
    const char *phase = saga_phase_name(fixture.instance.phase);
    snprintf(own_saga, sizeof(own_saga), "%s%s%s", saga_state_name(fixture.instance.state),
             phase ? "/" : "", phase ? phase : "");
    for (int i = 0; i < fixture.plan.step_count; i++) {
        const struct step_status *own = &fixture.instance.steps[i];
        const char *before = i > 0 ? " " : "";
        for (int j = -1; j < own->elements; j++) {
            const struct step_status *status = j < 0 ? own : element((char)('a' + i), j);
            before = j < 0 ? before : j == 0 ? "(" : " ";
            snprintf(own_steps + strlen(own_steps), sizeof(own_steps) - strlen(own_steps), "%s%s",
                     before, step_state_name(status->state));
        }
        if (own->elements > 0)
            snprintf(own_steps + strlen(own_steps), sizeof(own_steps) - strlen(own_steps), ")");
    }
    assert_string_equal(own_saga, saga);
    assert_string_equal(own_steps, steps);
}

void expect_sent(const char *sent)
{
    assert_string_equal(fixture.sent, sent);
}

void expect_because(const char *part)
{
    if (!strstr(fixture.decision.because, part))
        fail_msg("because \"%s\", expected \"%s\"", fixture.decision.because, part);
}

void expect_reason(const char *reason)
{
    assert_string_equal(fixture.instance.reason, reason);
}

void expect_noted(const char *note)
{
    char notes[FIXTURE_TEXT_BYTES + 8];
    char wanted[128];
    snprintf(notes, sizeof(notes), ", %s,", fixture.notes);
    snprintf(wanted, sizeof(wanted), ", %s,", note);
    if (!strstr(notes, wanted))
        fail_msg("noted \"%s\", expected \"%s\"", fixture.notes, note);
}
