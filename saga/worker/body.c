#include "saga/worker/body.h"

#include "outbox/runtime/utf8.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* Outcomes on the wire, and what they are to the machine. */
static const struct {
    const char *outcome;
    enum machine_event_type event;
} outcomes[] = {
    {"ok", EVENT_OK},
    {"failed", EVENT_FAILED},
    {"transient", EVENT_TRANSIENT},
    {"error", EVENT_ERROR},
    {"executed", EVENT_EXECUTED},
    {"not_executed", EVENT_NOT_EXECUTED},
    {"in_doubt", EVENT_IN_DOUBT},
    {"expired", EVENT_EXPIRED},
};

static int refuse(struct error *error, const char *what)
{
    return error_set(error, ERROR_PROTOCOL, RETRY_POISON, "%s", what);
}

static int read_name(const struct json_span *object, const char *member, char *out, size_t capacity,
                     struct error *error)
{
    struct json_span value;
    if (!json_member(object, member, &value) || value.kind != JSON_STRING) {
        return error_set(error, ERROR_PROTOCOL, RETRY_POISON, "saga.%s is missing or not a string",
                         member);
    }
    if (json_string_copy(&value, out, capacity, error) < 0) {
        return error_set(error, ERROR_PROTOCOL, RETRY_POISON, "saga.%s is too long", member);
    }
    return 0;
}

/* Absent counts as zero where `required` is not set. */
static int read_count(const struct json_span *object, const char *member, bool required,
                      int *ret_count, struct error *error)
{
    struct json_span value;
    int64_t count = 0;
    if (!json_member(object, member, &value)) {
        if (required) {
            return error_set(error, ERROR_PROTOCOL, RETRY_POISON, "saga.%s is missing", member);
        }
    } else if (value.kind != JSON_NUMBER || json_int64(&value, &count, error) < 0 || count < 0 ||
               count > INT_MAX) {
        return error_set(error, ERROR_PROTOCOL, RETRY_POISON,
                         "saga.%s is not an integer from 0 to %d", member, INT_MAX);
    }
    *ret_count = (int)count;
    return 0;
}

static int read_operation(const struct json_span *saga, enum saga_operation *ret_operation,
                          struct error *error)
{
    char name[16];
    int rc = read_name(saga, "operation", name, sizeof name, error);
    if (rc < 0) {
        return rc;
    }
    static const enum saga_operation operations[] = {OPERATION_ACTION, OPERATION_UNDO,
                                                     OPERATION_PROBE};
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
        if (strcmp(name, saga_operation_name(operations[i])) == 0) {
            *ret_operation = operations[i];
            return 0;
        }
    }
    return refuse(error, "saga.operation is none of action, undo, probe");
}

static int read_saga(struct body *body, struct error *error)
{
    struct json_span saga;
    if (body->root.kind != JSON_OBJECT || !json_member(&body->root, "saga", &saga) ||
        saga.kind != JSON_OBJECT) {
        return refuse(error, "not an object with a member saga");
    }
    char id[UUID_TEXT_BYTES];
    int rc = read_name(&saga, "id", id, sizeof id, error);
    if (rc < 0) {
        return rc;
    }
    if (uuid_parse(id, strlen(id), &body->saga_id, error) < 0) {
        return refuse(error, "saga.id is not a UUID");
    }
    body->has_id = true;
    if ((rc = read_name(&saga, "step", body->step, sizeof body->step, error)) < 0 ||
        (rc = read_operation(&saga, &body->operation, error)) < 0 ||
        (rc = read_count(&saga, "round", true, &body->round, error)) < 0 ||
        (rc = read_count(&saga, "element", false, &body->element, error)) < 0) {
        return rc;
    }
    return read_count(&saga, "attempt", false, &body->attempt, error);
}

static int read_root(const char *text, size_t bytes, const struct json_limits *limits,
                     struct body *body, struct error *error)
{
    *body = (struct body){0};
    int rc = json_check(text, bytes, limits, &body->root, error);
    if (rc < 0) {
        error->retry = RETRY_POISON;
        return rc;
    }
    return read_saga(body, error);
}

int body_read_command(const char *text, size_t bytes, const struct json_limits *limits,
                      const char *action, size_t action_bytes, struct body *ret_body,
                      struct error *error)
{
    int rc = read_root(text, bytes, limits, ret_body, error);
    if (rc < 0) {
        return rc;
    }
    if (action_bytes >= sizeof ret_body->action) {
        return refuse(error, "the routing key is too long");
    }
    memcpy(ret_body->action, action, action_bytes);
    ret_body->action[action_bytes] = '\0';
    return 0;
}

void body_copy_text(char *out, size_t capacity, const char *text)
{
    size_t length = 0;
    size_t left = strlen(text);
    while (left > 0) {
        uint32_t character;
        size_t bytes = utf8_decode(text + length, left, &character);
        if (bytes == 0 || length + bytes >= capacity) {
            break;
        }
        memcpy(out + length, text + length, bytes);
        length += bytes;
        left -= bytes;
    }
    out[length] = '\0';
}

static void copy_member(const struct json_span *object, const char *member, char *out,
                        size_t capacity)
{
    struct json_span value;
    out[0] = '\0';
    if (object->kind == JSON_OBJECT && json_member(object, member, &value) &&
        value.kind == JSON_STRING && json_string_copy(&value, out, capacity, NULL) < 0) {
        out[0] = '\0'; /* too long: the whole of it is in the saga's errors */
    }
}

static void describe_error(const struct json_span *error_object, char *out, size_t capacity)
{
    char code[128];
    char message[1024];
    char both[sizeof code + sizeof message + 2];
    copy_member(error_object, "code", code, sizeof code);
    copy_member(error_object, "message", message, sizeof message);
    (void)snprintf(both, sizeof both, "%s%s%s", code, code[0] && message[0] ? ": " : "", message);
    body_copy_text(out, capacity, both);
}

int body_read_reply(const char *text, size_t bytes, const struct json_limits *limits,
                    struct body *ret_body, struct error *error)
{
    int rc = read_root(text, bytes, limits, ret_body, error);
    if (rc < 0) {
        return rc;
    }
    struct json_span value;
    char outcome[16];
    if (!json_member(&ret_body->root, "outcome", &value) || value.kind != JSON_STRING ||
        json_string_copy(&value, outcome, sizeof outcome, NULL) < 0) {
        return refuse(error, "outcome is missing or not one of the known");
    }
    size_t i = 0;
    while (i < sizeof outcomes / sizeof outcomes[0] && strcmp(outcome, outcomes[i].outcome) != 0) {
        i++;
    }
    if (i == sizeof outcomes / sizeof outcomes[0]) {
        return refuse(error, "outcome is missing or not one of the known");
    }
    ret_body->event = outcomes[i].event;
    if (json_member(&ret_body->root, "empty", &value)) {
        ret_body->empty = value.kind == JSON_TRUE;
    }
    if (json_member(&ret_body->root, "output", &value) && value.kind != JSON_NULL) {
        ret_body->output = value;
    }
    if (json_member(&ret_body->root, "error", &value) && value.kind != JSON_NULL) {
        ret_body->error = value;
        describe_error(&value, ret_body->reason, sizeof ret_body->reason);
    }
    return 0;
}
