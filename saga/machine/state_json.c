/* state_json.c: saga.instance.steps, read by a cursor and written into the caller's memory.
 *
 *     steps = '[' step (',' step)* ']'
 *     step  = '{' member (',' member)* '}'
 *     member= '"' ('s' | 'r' | 'u' | 'a' | 'd') '"' ':' (state name in quotes | whole number)
 *           | '"e"' ':' steps, of a fan-out; none of them has an 'e'
 *
 * with JSON's white space anywhere between. The error is sticky: after the first, the cursor gives
 * nothing more. */
#include "saga/machine/state_json.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

#define COUNT_MAX 1000000000 /* rounds and attempts */

struct cursor {
    const char *begin, *at, *end;
    const char *problem; /* NULL: none */
};

static void fail(struct cursor *cursor, const char *problem)
{
    if (!cursor->problem)
        cursor->problem = problem;
}

static void skip_space(struct cursor *cursor)
{
    while (cursor->at < cursor->end && (*cursor->at == ' ' || *cursor->at == '\n' ||
                                        *cursor->at == '\r' || *cursor->at == '\t'))
        cursor->at++;
}

/* Takes `wanted` if it is next, after white space. */
static bool next_is(struct cursor *cursor, char wanted)
{
    skip_space(cursor);
    if (cursor->problem || cursor->at == cursor->end || *cursor->at != wanted)
        return false;
    cursor->at++;
    return true;
}

static void expect(struct cursor *cursor, char wanted, const char *problem)
{
    if (!next_is(cursor, wanted))
        fail(cursor, problem);
}

/* The names are plain ASCII: an escape is no part of any of them. */
static const char *quoted(struct cursor *cursor, size_t *ret_bytes)
{
    *ret_bytes = 0;
    expect(cursor, '"', "a name in quotes is missing");
    const char *text = cursor->at;
    if (cursor->problem)
        return text;
    const char *close = memchr(text, '"', (size_t)(cursor->end - text));
    if (!close) {
        fail(cursor, "a name does not end");
        return text;
    }
    *ret_bytes = (size_t)(close - text);
    cursor->at = close + 1;
    return text;
}

static int64_t whole_number(struct cursor *cursor, int64_t max)
{
    skip_space(cursor);
    const char *first = cursor->at;
    int64_t number = 0;
    while (!cursor->problem && cursor->at < cursor->end && *cursor->at >= '0' &&
           *cursor->at <= '9') {
        int digit = *cursor->at++ - '0';
        if (number > (max - digit) / 10)
            fail(cursor, "a number is out of range");
        else
            number = number * 10 + digit;
    }
    if (cursor->at == first)
        fail(cursor, "a whole number is missing");
    else if (*first == '0' && cursor->at - first > 1)
        fail(cursor, "a number begins with 0");
    return number;
}

static enum step_state state_name(struct cursor *cursor)
{
    size_t bytes;
    const char *text = quoted(cursor, &bytes);
    int state = cursor->problem ? -1 : step_state_parse(text, bytes);
    if (state < 0) {
        fail(cursor, "there is no such state");
        return STEP_WAITING;
    }
    return (enum step_state)state;
}

static const char members[] = "sruade";

/* Where the elements of a step go, and how many there may be. */
struct room {
    struct step_status *elements;
    int max;
};

static void read_step(struct cursor *cursor, struct step_status *status, const struct room *room);

static void read_elements(struct cursor *cursor, struct step_status *status,
                          const struct room *room)
{
    static const struct room none = {NULL, 0};
    int count = 0;
    expect(cursor, '[', "an array is missing");
    do {
        if (count == room->max)
            fail(cursor, "a step has more elements than it may have");
        else
            read_step(cursor, &room->elements[count++], &none);
    } while (next_is(cursor, ','));
    expect(cursor, ']', "an array does not end");
    status->elements = cursor->problem ? 0 : count;
}

static void read_member(struct cursor *cursor, struct step_status *status, unsigned *seen,
                        const struct room *room)
{
    size_t bytes;
    const char *name = quoted(cursor, &bytes);
    const char *known = bytes == 1 && !cursor->problem ? strchr(members, *name) : NULL;
    if (!known || !*known) {
        fail(cursor, "there is no such member");
        return;
    }
    unsigned bit = 1u << (known - members);
    if (*seen & bit) {
        fail(cursor, "a member comes twice");
        return;
    }
    *seen |= bit;
    expect(cursor, ':', "a colon is missing");
    switch (*known) {
    case 's':
        status->state = state_name(cursor);
        break;
    case 'r':
        status->round = (int)whole_number(cursor, COUNT_MAX);
        break;
    case 'u':
        status->undo_round = (int)whole_number(cursor, COUNT_MAX);
        break;
    case 'a':
        status->attempt = (int)whole_number(cursor, COUNT_MAX);
        break;
    case 'd':
        status->due_us = whole_number(cursor, INT64_MAX);
        break;
    default:
        read_elements(cursor, status, room);
        break;
    }
}

/* Steps hold elements and elements hold none: it goes no deeper. */
static void read_step(struct cursor *cursor, struct step_status *status, const struct room *room)
{
    const unsigned required = 0xf; /* all but d and e */
    unsigned seen = 0;
    *status = (struct step_status){0};
    expect(cursor, '{', "an object is missing");
    do {
        read_member(cursor, status, &seen, room);
    } while (next_is(cursor, ','));
    expect(cursor, '}', "an object does not end");
    if ((seen & required) != required)
        fail(cursor, "a step lacks s, r, u or a");
}

int state_json_read(const char *json, size_t bytes, const struct plan *plan,
                    struct instance *instance, struct error *error)
{
    int step_count = plan->step_count;
    assert(step_count >= 1 && step_count <= SAGA_STEPS_MAX);
    struct step_status steps[SAGA_STEPS_MAX];
    struct cursor cursor = {.begin = json, .at = json, .end = json + bytes};
    expect(&cursor, '[', "it is no array");
    for (int i = 0; i < step_count && !cursor.problem; i++) {
        if (i > 0)
            expect(&cursor, ',', "it has too few steps");
        const struct plan_step *step = &plan->steps[i];
        const struct room room = {&instance->elements[step->elements_from], step->elements_max};
        read_step(&cursor, &steps[i], &room);
    }
    expect(&cursor, ']', "it has too many steps");
    skip_space(&cursor);
    if (cursor.at != cursor.end)
        fail(&cursor, "something follows it");
    if (cursor.problem)
        return error_set(error, ERROR_PROTOCOL, RETRY_POISON,
                         "the steps of an instance, at byte %zu: %s",
                         (size_t)(cursor.at - cursor.begin), cursor.problem);
    memcpy(instance->steps, steps, (size_t)step_count * sizeof(steps[0]));
    return 0;
}

static char *put_text(char *out, const char *text)
{
    while (*text)
        *out++ = *text++;
    return out;
}

static char *put_number(char *out, int64_t number)
{
    char digits[20];
    size_t count = 0;
    assert(number >= 0);
    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    while (count > 0)
        *out++ = digits[--count];
    return out;
}

/* All but the closing bracket. */
static char *put_status(char *out, const struct step_status *status)
{
    out = put_text(out, "{\"s\": \"");
    out = put_text(out, step_state_name(status->state));
    out = put_text(out, "\", \"r\": ");
    out = put_number(out, status->round);
    out = put_text(out, ", \"u\": ");
    out = put_number(out, status->undo_round);
    out = put_text(out, ", \"a\": ");
    out = put_number(out, status->attempt);
    if (status->due_us != 0) {
        out = put_text(out, ", \"d\": ");
        out = put_number(out, status->due_us);
    }
    return out;
}

/* elements: of a fan-out; as many as the status says. */
static char *put_step(char *out, const struct step_status *status,
                      const struct step_status *elements)
{
    out = put_status(out, status);
    for (int i = 0; i < status->elements; i++) {
        out = put_text(out, i == 0 ? ", \"e\": [" : ", ");
        out = put_text(put_status(out, &elements[i]), "}");
    }
    return put_text(out, status->elements > 0 ? "]}" : "}");
}

size_t state_json_write(const struct instance *instance, const struct plan *plan, char *out)
{
    int step_count = plan->step_count;
    assert(step_count >= 1 && step_count <= SAGA_STEPS_MAX);
    char *at = put_text(out, "[");
    for (int i = 0; i < step_count; i++) {
        if (i > 0)
            at = put_text(at, ", ");
        at = put_step(at, &instance->steps[i], &instance->elements[plan->steps[i].elements_from]);
    }
    at = put_text(at, "]");
    *at = '\0';
    assert((size_t)(at - out) < STATE_JSON_BYTES_MAX);
    return (size_t)(at - out);
}
