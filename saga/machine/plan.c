/* plan.c: a plan's JSON, read and checked.
 *
 * The text was made by PostgreSQL from jsonb, so that numbers fit and members are unique; all the
 * same nothing in it is taken on trust: a reader with a sticky error, and the first problem is
 * reported with the step's name. */
#include "saga/machine/plan.h"

#include "outbox/runtime/json_scan.h"

#include <assert.h>
#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX   64 /* templates nest */
#define FACTOR_MAX  1000.0
#define WHERE_BYTES (PLAN_NAME_BYTES_MAX + 64)
#define US_PER_MS   1000
#define STEP_BIT(i) (UINT64_C(1) << (i))

/* The names of a plan point into the document. */
struct plan_owner {
    struct plan plan;
    struct json_object *document;
    char *text; /* the contents of the steps lie in it */
};

struct reader {
    struct error *error;
    bool failed;
    char where[WHERE_BYTES]; /* the step that is being read: `step "x": `, or "" */
};

/* The first problem is the one that is told. */
#define problem(reader, ...)                                                                       \
    do {                                                                                           \
        if (!(reader)->failed) {                                                                   \
            (reader)->failed = true;                                                               \
            error_set((reader)->error, ERROR_PROTOCOL, RETRY_POISON, __VA_ARGS__);                 \
            error_context((reader)->error, "plan%s", (reader)->where);                             \
        }                                                                                          \
    } while (0)

static struct json_object *member(const struct json_object *object, const char *name)
{
    struct json_object *value = NULL;
    json_object_object_get_ex(object, name, &value);
    return value; /* NULL: absent or null */
}

static const char *text_of(struct reader *reader, const struct json_object *object,
                           const char *name, bool required)
{
    struct json_object *value = member(object, name);
    if (!value && !required)
        return NULL;
    if (!json_object_is_type(value, json_type_string)) {
        problem(reader, "\"%s\" is no text", name);
        return "";
    }
    const char *text = json_object_get_string(value);
    size_t bytes = (size_t)json_object_get_string_len(value);
    if (bytes == 0 || bytes > PLAN_NAME_BYTES_MAX || strlen(text) != bytes)
        problem(reader, "\"%s\" has %zu bytes, allowed are 1 to %d", name, bytes,
                PLAN_NAME_BYTES_MAX);
    return text;
}

/* A number from `low` to `high`; `absent` when there is none or it is null. */
static double number_of(struct reader *reader, const struct json_object *object, const char *name,
                        double low, double high, double absent)
{
    struct json_object *value = member(object, name);
    if (!value && absent >= 0)
        return absent;
    if (!json_object_is_type(value, json_type_int) &&
        !json_object_is_type(value, json_type_double)) {
        problem(reader, "\"%s\" is no number", name);
        return low;
    }
    double number = json_object_get_double(value);
    if (!(number >= low && number <= high)) {
        problem(reader, "\"%s\" is %.17g, allowed is %.17g to %.17g", name, number, low, high);
        return low;
    }
    return number;
}

#define NO_DEFAULT (-1.0)

static int64_t time_us_of(struct reader *reader, const struct json_object *object, const char *name,
                          double absent)
{
    double high = (double)PLAN_TIMEOUT_US_MAX / US_PER_MS;
    return llround(number_of(reader, object, name, 0, high, absent) * US_PER_MS);
}

static bool flag_of(struct reader *reader, const struct json_object *object, const char *name)
{
    struct json_object *value = member(object, name);
    if (value && !json_object_is_type(value, json_type_boolean))
        problem(reader, "\"%s\" is neither true nor false", name);
    return json_object_get_boolean(value);
}

static void read_policy(struct reader *reader, const struct json_object *step, const char *name,
                        struct retry_policy *policy)
{
    struct json_object *object = member(step, name);
    if (!json_object_is_type(object, json_type_object)) {
        problem(reader, "\"%s\" is no object", name);
        return;
    }
    policy->max = (int)number_of(reader, object, "max", 1, PLAN_ATTEMPTS_MAX, NO_DEFAULT);
    policy->base_us = time_us_of(reader, object, "base_ms", NO_DEFAULT);
    policy->factor = number_of(reader, object, "factor", 1, FACTOR_MAX, NO_DEFAULT);
    policy->cap_us = time_us_of(reader, object, "cap_ms", NO_DEFAULT);
    policy->jitter = flag_of(reader, object, "jitter");
    if (policy->cap_us < policy->base_us)
        problem(reader, "\"%s\": the cap of its pauses is below the first", name);
}

static void read_after(struct reader *reader, const struct json_object *object, int index,
                       struct plan_step *step)
{
    struct json_object *after = member(object, "after");
    if (!json_object_is_type(after, json_type_array)) {
        problem(reader, "\"after\" is no array");
        return;
    }
    for (size_t i = 0; i < json_object_array_length(after); i++) {
        struct json_object *entry = json_object_array_get_idx(after, i);
        int64_t before =
            json_object_is_type(entry, json_type_int) ? json_object_get_int64(entry) : -1;
        if (before < 0 || before >= index) {
            problem(reader, "\"after\" may name the steps before it by index, 0 to %d", index - 1);
            return;
        }
        step->after |= STEP_BIT(before);
    }
}

static int parse_name(struct reader *reader, const struct json_object *object, const char *name,
                      int (*parse)(const char *text, size_t bytes))
{
    const char *text = text_of(reader, object, name, true);
    int value = parse(text, strlen(text));
    if (value < 0)
        problem(reader, "there is no %s \"%s\"", name, text);
    return value < 0 ? 0 : value;
}

static bool has(const struct json_object *object, const char *name)
{
    return member(object, name) != NULL;
}

static void read_fan_out(struct reader *reader, const struct json_object *object,
                         struct plan_step *step)
{
    double most = SAGA_ELEMENTS_MAX;
    step->elements_max = (int)number_of(reader, object, "for_each_max", 1, most, NO_DEFAULT);
    step->elements_at_once =
        (int)number_of(reader, object, "for_each_at_once", 1, most, step->elements_max);
}

static void read_step(struct reader *reader, const struct json_object *object, int index,
                      struct plan_step *step)
{
    snprintf(reader->where, sizeof(reader->where), ": step %d", index);
    if (!json_object_is_type(object, json_type_object)) {
        problem(reader, "it is no object");
        return;
    }
    step->name = text_of(reader, object, "name", true);
    snprintf(reader->where, sizeof(reader->where), ": step \"%.*s\"", PLAN_NAME_BYTES_MAX,
             step->name);
    step->via = (enum step_via)parse_name(reader, object, "via", step_via_parse);
    step->kind = (enum step_kind)parse_name(reader, object, "kind", step_kind_parse);
    bool is_command = step->via == VIA_COMMAND;
    step->action = text_of(reader, object, "action", is_command);
    step->undo = text_of(reader, object, "undo", false);
    step->participant = text_of(reader, object, "participant", is_command);
    read_after(reader, object, index, step);
    step->timeout_us = time_us_of(reader, object, "timeout_ms", 0);
    read_policy(reader, object, "retry", &step->retry);
    read_policy(reader, object, "undo_retry", &step->undo_retry);
    step->undo_on_fail = flag_of(reader, object, "undo_on_fail");
    const char *on_timeout = text_of(reader, object, "on_timeout", false);
    step->skip_on_timeout = on_timeout && strcmp(on_timeout, "skip") == 0;
    if (on_timeout && !step->skip_on_timeout && strcmp(on_timeout, "fail") != 0)
        problem(reader, "there is no on_timeout \"%s\"", on_timeout);
    if (has(object, "for_each"))
        read_fan_out(reader, object, step);
    step->has_input = has(object, "input");
    step->has_undo_input = has(object, "undo_input");
    step->has_condition = has(object, "run_if") || has(object, "skip_if");
    reader->where[0] = '\0';
}

static void read_plan(struct reader *reader, struct plan_owner *owner)
{
    struct plan *plan = &owner->plan;
    struct json_object *root = owner->document;
    if (!json_object_is_type(root, json_type_object)) {
        problem(reader, "it is no object");
        return;
    }
    plan->definition = text_of(reader, root, "definition", true);
    plan->version = (int)number_of(reader, root, "version", 1, INT32_MAX, NO_DEFAULT);
    plan->timeout_us = time_us_of(reader, root, "timeout_ms", 0);
    plan->events = flag_of(reader, root, "events");
    struct json_object *steps = member(root, "steps");
    if (!json_object_is_type(steps, json_type_array)) {
        problem(reader, "\"steps\" is no array");
        return;
    }
    size_t count = json_object_array_length(steps);
    if (count < 1 || count > SAGA_STEPS_MAX) {
        problem(reader, "it has %zu steps, allowed are 1 to %d", count, SAGA_STEPS_MAX);
        return;
    }
    plan->step_count = (int)count;
    for (int i = 0; i < plan->step_count && !reader->failed; i++)
        read_step(reader, json_object_array_get_idx(steps, (size_t)i), i, &plan->steps[i]);
}

static struct json_object *parse(const char *json, size_t bytes, struct reader *reader)
{
    if (bytes > PLAN_BYTES_MAX) {
        problem(reader, "it has %zu bytes, allowed are %zu", bytes, PLAN_BYTES_MAX);
        return NULL;
    }
    struct json_tokener *tokener = json_tokener_new_ex(DEPTH_MAX);
    if (!tokener) {
        problem(reader, "out of memory");
        reader->error->code = ERROR_NO_MEMORY;
        reader->error->retry = RETRY_LATER;
        return NULL;
    }
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    struct json_object *document = json_tokener_parse_ex(tokener, json, (int)bytes);
    enum json_tokener_error status = json_tokener_get_error(tokener);
    if (status != json_tokener_success)
        problem(reader, "%s at byte %zu", json_tokener_error_desc(status),
                json_tokener_get_parse_end(tokener));
    else if (json_tokener_get_parse_end(tokener) != bytes)
        problem(reader, "something follows the document at byte %zu",
                json_tokener_get_parse_end(tokener));
    json_tokener_free(tokener);
    return document;
}

/* Where each step stands in the text: what has no meaning to the machine is compared as it was
 * written (migrate.c), numbers of any length included, which json-c would round. */
static int find_contents(struct plan_owner *owner, const char *json, size_t bytes,
                         struct error *error)
{
    const struct json_limits limits = {.bytes_max = PLAN_BYTES_MAX, .depth_max = JSON_DEPTH_MAX};
    struct json_span root, steps, unnamed, step;
    const char *cursor = NULL;
    owner->text = malloc(bytes + 1);
    if (!owner->text)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "out of memory for a plan");
    memcpy(owner->text, json, bytes);
    int rc = json_check(owner->text, bytes, &limits, &root, error);
    if (rc < 0)
        return error_context(error, "plan");
    bool found = json_member(&root, "steps", &steps);
    assert(found); /* read_plan has read it */
    for (int i = 0; i < owner->plan.step_count; i++) {
        found = json_next(&steps, &cursor, &unnamed, &step);
        assert(found);
        owner->plan.steps[i].content = step.text;
        owner->plan.steps[i].content_bytes = step.bytes;
    }
    return 0;
}

int plan_read(const char *json, size_t bytes, struct plan **ret_plan, struct error *error)
{
    struct error unused;
    struct reader reader = {.error = error ? error : &unused};
    struct plan_owner *owner = calloc(1, sizeof(*owner));
    if (!owner)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "out of memory for a plan");
    owner->document = parse(json, bytes, &reader);
    if (!reader.failed)
        read_plan(&reader, owner);
    int rc = reader.failed ? reader.error->code : plan_complete(&owner->plan, error);
    if (rc == 0)
        rc = find_contents(owner, json, bytes, error);
    if (rc < 0) {
        plan_free(&owner->plan);
        return rc;
    }
    *ret_plan = &owner->plan;
    return 0;
}

void plan_free(struct plan *plan)
{
    if (!plan)
        return;
    struct plan_owner *owner = (struct plan_owner *)plan; /* its first member */
    json_object_put(owner->document);
    free(owner->text);
    free(owner);
}

int plan_find_step(const struct plan *plan, const char *name, size_t bytes)
{
    for (int i = 0; i < plan->step_count; i++) {
        const char *own = plan->steps[i].name;
        if (strlen(own) == bytes && memcmp(own, name, bytes) == 0)
            return i;
    }
    return -1;
}

/* "[2]", and nothing behind it; -1: not so. */
static int read_element(const char *text)
{
    int element = 0;
    const char *at = text + 1;
    for (; *at >= '0' && *at <= '9' && element < SAGA_ELEMENTS_MAX; at++)
        element = element * 10 + (*at - '0');
    bool is_number = at > text + 1 && strcmp(at, "]") == 0;
    return is_number ? element : -1;
}

int plan_find_element(const struct plan *plan, const char *name, int *ret_element)
{
    const char *bracket = strchr(name, '[');
    size_t bytes = bracket ? (size_t)(bracket - name) : strlen(name);
    int step = plan_find_step(plan, name, bytes);
    bool fans_out = step >= 0 && step_fans_out(&plan->steps[step]);
    int element = fans_out ? ELEMENT_ALL : 0;
    if (bracket) {
        element = read_element(bracket);
        step = fans_out && element >= 0 ? step : -1;
    }
    if (step >= 0)
        *ret_element = element;
    return step;
}
