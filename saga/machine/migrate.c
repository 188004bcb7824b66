#include "saga/machine/migrate.h"

#include "outbox/runtime/json_scan.h"
#include "saga/machine/plan.h"
#include "saga/machine/table.h"

#include <stdarg.h>
#include <string.h>

/* Members of a step that may be others although it has begun: always, while no undo of it is out,
 * when it has failed for good, and when it failed over its list. `after` names steps by their
 * index, which may have changed: it is compared by names. */
enum {
    FREE_ALWAYS = 1,
    FREE_WITHOUT_UNDO = 2,
    FREE_WHEN_FAILED = 4,
    FREE_WITHOUT_LIST = 8,
};

static const struct {
    const char *name;
    int when;
} may_differ[] = {
    {"after", FREE_ALWAYS},
    {"timeout_ms", FREE_ALWAYS},
    {"retry", FREE_ALWAYS},
    {"undo_retry", FREE_ALWAYS},
    {"child_version", FREE_ALWAYS},
    {"undo", FREE_WITHOUT_UNDO},
    {"undo_input", FREE_WITHOUT_UNDO},
    {"action", FREE_WHEN_FAILED},
    {"participant", FREE_WHEN_FAILED},
    {"input", FREE_WHEN_FAILED},
    {"for_each", FREE_WITHOUT_LIST},
    {"for_each_max", FREE_WITHOUT_LIST},
    {"for_each_at_once", FREE_ALWAYS},
};

struct finder {
    const struct plan *from, *to;
    const struct plan_step *step; /* of `from` */
    int free;                     /* what else than FREE_ALWAYS holds for it */
    char *why;
};

static bool say(const struct finder *finder, const char *format, ...) PRINTF_LIKE(2, 3);
static bool say(const struct finder *finder, const char *format, ...)
{
    va_list arguments;
    size_t at = 0;
    if (finder->step)
        at = (size_t)snprintf(finder->why, MIGRATE_TEXT_BYTES_MAX, "step \"%s\" has begun, ",
                              finder->step->name);
    va_start(arguments, format);
    vsnprintf(finder->why + at, MIGRATE_TEXT_BYTES_MAX - at, format, arguments);
    va_end(arguments);
    return true;
}

bool migrate_has_begun(const struct step_status *status)
{
    bool never_sent =
        (status->state == STEP_READY || status->state == STEP_CANCELLED) && status->round == 0;
    return status->elements > 0 || (status->state != STEP_WAITING && !never_sent);
}

/* Nothing was done, nothing of it can still be done, and nothing is left of it. */
static bool failed_for_good(const struct unit *unit)
{
    return unit->status->state == STEP_WAITING ||
           (unit->status->state == STEP_FAILED && !unit->step->undo_on_fail);
}

/* No command of its undo can still be carried out: none was sent, or the last was refused. */
static bool has_no_undo_out(const struct unit *unit)
{
    bool was_refused = unit->status->state == STEP_UNDO_STUCK && unit->status->attempt == 0;
    return unit->status->undo_round == 0 || was_refused;
}

/* The other plan's undo would be meant for a child saga of its own version. */
static int free_members(const struct finder *finder, const struct instance *instance, int step)
{
    bool is_child = finder->step->via == VIA_SAGA;
    int free = FREE_ALWAYS | FREE_WHEN_FAILED | (is_child ? 0 : FREE_WITHOUT_UNDO);
    if (step_fans_out(finder->step) && instance->steps[step].state == STEP_FAILED &&
        instance->steps[step].elements == 0)
        free |= FREE_WITHOUT_LIST;
    for (int i = 0; i < machine_unit_count(instance, step); i++) {
        const struct unit unit = machine_unit(finder->from, instance, step, i);
        if (!failed_for_good(&unit))
            free &= ~FREE_WHEN_FAILED;
        if (!has_no_undo_out(&unit))
            free &= ~FREE_WITHOUT_UNDO;
    }
    return free;
}

static bool are_same(const char *one, const char *other)
{
    return one == other || (one && other && strcmp(one, other) == 0);
}

static bool spans_are_same(const struct json_span *one, const struct json_span *other)
{
    return one->bytes == other->bytes && memcmp(one->text, other->text, one->bytes) == 0;
}

static bool is_free(const struct finder *finder, const char *name)
{
    for (size_t i = 0; i < sizeof may_differ / sizeof may_differ[0]; i++) {
        if (strcmp(may_differ[i].name, name) == 0)
            return (finder->free & may_differ[i].when) != 0;
    }
    return false;
}

/* A member of one that the other has not, or has with another value. null is as good as absent: a
 * version of publish that knows more members writes null where one is not used. */
static bool member_differs(const struct finder *finder, const struct json_span *one,
                           const struct json_span *other)
{
    const char *cursor = NULL;
    struct json_span name, value, found;
    while (json_next(one, &cursor, &name, &value)) {
        char text[PLAN_NAME_BYTES_MAX + 1];
        if (json_string_copy(&name, text, sizeof text, NULL) < 0 || is_free(finder, text))
            continue;
        bool is_there = json_member(other, text, &found);
        bool is_same = is_there ? spans_are_same(&value, &found) : value.kind == JSON_NULL;
        if (!is_same)
            return say(finder, "and its %s is another in version %d", text, finder->to->version);
    }
    return false;
}

static bool content_differs(const struct finder *finder, const struct plan_step *other)
{
    const struct plan_step *step = finder->step;
    if (!step->content || !other->content)
        return false; /* plans that were built in memory have nothing beside what was compared */
    struct json_span one = {step->content, step->content_bytes, JSON_OBJECT};
    struct json_span two = {other->content, other->content_bytes, JSON_OBJECT};
    return member_differs(finder, &one, &two) || member_differs(finder, &two, &one);
}

/* The first step that is in `after` of one and, by its name, not in that of the other. */
static const char *extra_before(const struct plan *plan, const struct plan_step *step,
                                const struct plan *other_plan, const struct plan_step *other)
{
    for (int i = 0; i < plan->step_count; i++) {
        const char *name = plan->steps[i].name;
        if (!(step->after & STEP_BIT(i)))
            continue;
        int found = plan_find_step(other_plan, name, strlen(name));
        if (found < 0 || !(other->after & STEP_BIT(found)))
            return name;
    }
    return NULL;
}

static bool order_differs(const struct finder *finder, const struct plan_step *other)
{
    const char *added = extra_before(finder->to, other, finder->from, finder->step);
    const char *gone = extra_before(finder->from, finder->step, finder->to, other);
    if (added)
        return say(finder, "and version %d has it come after \"%s\"", finder->to->version, added);
    return gone && say(finder, "and version %d does not have it come after \"%s\"",
                       finder->to->version, gone);
}

static bool step_differs(const struct finder *finder, const struct step_status *status)
{
    const struct plan_step *step = finder->step;
    int version = finder->to->version;
    int found = plan_find_step(finder->to, step->name, strlen(step->name));
    if (found < 0)
        return say(finder, "and version %d has no such step", version);
    const struct plan_step *other = &finder->to->steps[found];
    if (step->via != other->via)
        return say(finder, "and its via is %s in version %d", step_via_name(other->via), version);
    if (step_fans_out(step) != step_fans_out(other))
        return say(finder, "and its for_each is another in version %d", version);
    if (step->kind != other->kind && !step_waits(step)) /* that of a wait follows from its place */
        return say(finder, "and is %s in version %d", step_kind_name(other->kind), version);
    if (!are_same(step->action, other->action) && !is_free(finder, "action"))
        return say(finder, "and its action is another in version %d", version);
    if (!are_same(step->undo, other->undo) && !is_free(finder, "undo"))
        return say(finder, "and its undo is another in version %d", version);
    if (step->undo_on_fail != other->undo_on_fail)
        return say(finder, "and its undo_on_fail is another in version %d", version);
    if (content_differs(finder, other) || order_differs(finder, other))
        return true;
    if (step->skip_on_timeout != other->skip_on_timeout && status->state == STEP_PARKED)
        return say(finder, "and its on_timeout is another in version %d", version);
    if (step->timeout_us != other->timeout_us && status->state == STEP_PARKED)
        return say(finder, "its time runs, and its timeout is another in version %d", version);
    return false;
}

bool migrate_differs(const struct plan *plan, const struct instance *instance,
                     const struct plan *to, char ret_why[MIGRATE_TEXT_BYTES_MAX])
{
    struct finder finder = {.from = plan, .to = to, .why = ret_why};
    ret_why[0] = '\0';
    if (strcmp(plan->definition, to->definition) != 0)
        return say(&finder, "\"%s\" is another definition than \"%s\"", to->definition,
                   plan->definition);
    if (to->version <= plan->version)
        return say(&finder, "it is at version %d: version %d is not newer", plan->version,
                   to->version);
    for (int i = 0; i < plan->step_count; i++) {
        finder.step = &plan->steps[i];
        finder.free = free_members(&finder, instance, i);
        if (migrate_has_begun(&instance->steps[i]) && step_differs(&finder, &instance->steps[i]))
            return true;
    }
    return false;
}

void migrate_instance(const struct plan *plan, struct instance *instance, const struct plan *to)
{
    struct step_status steps[SAGA_STEPS_MAX];
    struct step_status elements[SAGA_ELEMENTS_MAX];
    memset(steps, 0, sizeof steps); /* STEP_WAITING, never sent */
    for (int i = 0; i < to->step_count; i++) {
        const char *name = to->steps[i].name;
        int found = plan_find_step(plan, name, strlen(name));
        if (found >= 0 && migrate_has_begun(&instance->steps[found]))
            steps[i] = instance->steps[found];
        for (int j = 0; j < steps[i].elements; j++) /* the list has the same limit there */
            elements[to->steps[i].elements_from + j] =
                instance->elements[plan->steps[found].elements_from + j];
    }
    memcpy(instance->steps, steps, sizeof steps);
    memcpy(instance->elements, elements, sizeof elements);
}
