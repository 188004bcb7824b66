/* sagas.c: see sagas.h. */
#include "tests/machine/sagas.h"

#include "saga/machine/plan.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BIT(i) (UINT64_C(1) << (i))

static const char letters[TYPE_COUNT + 1] = "crptwsukzlmfghnxeoqv";
static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};

static const struct retry_policy few = {
    .max = 2, .base_us = 1000, .factor = 2, .cap_us = 10000, .jitter = false};

static void make_step(struct plan_step *step, const char *name, enum step_type type, uint64_t after)
{
    static const enum step_kind kinds[TYPE_COUNT] = {
        [TYPE_COMPENSABLE] = KIND_COMPENSABLE,
        [TYPE_READ_ONLY] = KIND_READ_ONLY,
        [TYPE_PIVOT] = KIND_PIVOT,
        [TYPE_RETRIABLE] = KIND_RETRIABLE,
        [TYPE_TIMER] = KIND_READ_ONLY,
        [TYPE_SIGNAL] = KIND_READ_ONLY,
        [TYPE_UNDO_ON_FAIL] = KIND_COMPENSABLE,
        [TYPE_CHILD] = KIND_COMPENSABLE,
        [TYPE_PATIENT] = KIND_READ_ONLY,
        [TYPE_LOCK] = KIND_READ_ONLY,
        [TYPE_PATIENT_LOCK] = KIND_READ_ONLY,
        [TYPE_FAN] = KIND_COMPENSABLE,
        [TYPE_FAN_RETRIABLE] = KIND_RETRIABLE,
        [TYPE_FAN_READ] = KIND_READ_ONLY,
        [TYPE_FAN_NARROW] = KIND_COMPENSABLE,
        [TYPE_FAN_THREE] = KIND_COMPENSABLE,
        [TYPE_FAN_CLEANED] = KIND_COMPENSABLE,
        [TYPE_LOCK_FOR_EVER] = KIND_READ_ONLY,
        [TYPE_CHILD_PIVOT] = KIND_PIVOT,
        [TYPE_CHILD_BEHIND] = KIND_RETRIABLE,
    };
    static const enum step_via vias[TYPE_COUNT] = {
        [TYPE_TIMER] = VIA_TIMER,        [TYPE_SIGNAL] = VIA_SIGNAL,
        [TYPE_PATIENT] = VIA_SIGNAL,     [TYPE_CHILD] = VIA_SAGA,
        [TYPE_LOCK] = VIA_LOCK,          [TYPE_PATIENT_LOCK] = VIA_LOCK,
        [TYPE_LOCK_FOR_EVER] = VIA_LOCK, [TYPE_CHILD_PIVOT] = VIA_SAGA,
        [TYPE_CHILD_BEHIND] = VIA_SAGA,
    };
    static const int elements[TYPE_COUNT] = {
        [TYPE_FAN] = 2,        [TYPE_FAN_RETRIABLE] = 2, [TYPE_FAN_READ] = 2,
        [TYPE_FAN_NARROW] = 2, [TYPE_FAN_THREE] = 3,     [TYPE_FAN_CLEANED] = 2,
    };
    /* What publish writes down of a fan-out, and migrate.c compares. */
    static const char *const contents[TYPE_COUNT] = {
        [TYPE_FAN] = "{\"for_each\": {}}",
        [TYPE_FAN_RETRIABLE] = "{\"for_each\": {}}",
        [TYPE_FAN_READ] = "{\"for_each\": {}}",
        [TYPE_FAN_NARROW] = "{\"for_each\": {\"at_once\": 1}}",
        [TYPE_FAN_THREE] = "{\"for_each\": {\"max\": 3}}",
        [TYPE_FAN_CLEANED] = "{\"for_each\": {}}",
    };
    const char *content = contents[type] ? contents[type] : "{}";
    bool is_child = vias[type] == VIA_SAGA;
    *step = (struct plan_step){
        .name = name,
        .action = is_child ? NULL : "test.do",
        .undo = kinds[type] == KIND_COMPENSABLE && !is_child ? "test.undo" : NULL,
        .participant = is_child ? NULL : "test",
        .kind = kinds[type],
        .via = vias[type],
        .skip_on_timeout = type == TYPE_PATIENT || type == TYPE_PATIENT_LOCK,
        .has_input = vias[type] == VIA_LOCK,
        .after = after,
        .timeout_us = type == TYPE_LOCK_FOR_EVER ? 0 : 1000,
        .retry = few,
        .undo_retry = few,
        .undo_on_fail = type == TYPE_UNDO_ON_FAIL || type == TYPE_FAN_CLEANED,
        .elements_max = elements[type],
        .elements_at_once = type == TYPE_FAN_NARROW ? 1 : 2,
        .has_condition = true, /* that it does not hold is for the walk to say */
        .content = content,
        .content_bytes = strlen(content),
    };
}

static bool make_plan(int count, const enum step_type *types, const uint64_t *after,
                      struct plan *ret_plan)
{
    memset(ret_plan, 0, sizeof(*ret_plan));
    ret_plan->definition = "small";
    ret_plan->version = 1;
    ret_plan->timeout_us = 1000000;
    ret_plan->step_count = count;
    for (int i = 0; i < count; i++)
        make_step(&ret_plan->steps[i], names[i], types[i], after[i]);
    bool accepted = plan_complete(ret_plan, NULL) == 0;
    for (int i = 0; i < count && !accepted; i++) {
        /* A signal that fails without its signal waits behind the pivot without a limit. */
        if (types[i] != TYPE_SIGNAL || ret_plan->steps[i].kind != KIND_RETRIABLE)
            continue;
        ret_plan->steps[i].timeout_us = 0;
        accepted = plan_complete(ret_plan, NULL) == 0;
    }
    return accepted;
}

static enum step_type type_of_fan_out(const struct plan_step *step)
{
    if (step->kind != KIND_COMPENSABLE)
        return step->kind == KIND_RETRIABLE ? TYPE_FAN_RETRIABLE : TYPE_FAN_READ;
    if (step->elements_max == 3)
        return TYPE_FAN_THREE;
    if (step->undo_on_fail)
        return TYPE_FAN_CLEANED;
    return step->elements_at_once == 1 ? TYPE_FAN_NARROW : TYPE_FAN;
}

static enum step_type type_of_lock(const struct plan_step *step)
{
    if (step->timeout_us == 0)
        return TYPE_LOCK_FOR_EVER;
    return step->skip_on_timeout ? TYPE_PATIENT_LOCK : TYPE_LOCK;
}

static enum step_type type_of_child(const struct plan_step *step)
{
    if (step->kind == KIND_COMPENSABLE)
        return TYPE_CHILD;
    return step->kind == KIND_PIVOT ? TYPE_CHILD_PIVOT : TYPE_CHILD_BEHIND;
}

static enum step_type type_of(const struct plan_step *step)
{
    if (step->via == VIA_LOCK)
        return type_of_lock(step);
    if (step->skip_on_timeout)
        return TYPE_PATIENT;
    if (step->via == VIA_SAGA)
        return type_of_child(step);
    if (step_waits(step))
        return step->via == VIA_TIMER ? TYPE_TIMER : TYPE_SIGNAL;
    if (step_fans_out(step))
        return type_of_fan_out(step);
    if (step->undo_on_fail)
        return TYPE_UNDO_ON_FAIL;
    return (enum step_type)step->kind;
}

/* The graph with its steps in another order, as one number; 0: an order that `after` forbids. */
static uint64_t code_in_order(const struct plan *plan, const int *order)
{
    uint64_t code = 1;
    uint64_t done = 0;
    for (int place = 0; place < plan->step_count; place++) {
        const struct plan_step *step = &plan->steps[order[place]];
        if (step->after & ~done)
            return 0;
        code = code << 5 | (uint64_t)type_of(step);
        for (int other = 0; other < plan->step_count; other++)
            code = code << 1 | (other < place && (step->after & BIT(order[other])) != 0);
        done |= BIT(order[place]);
    }
    return code;
}

/* True if no order of the steps has a smaller code: one of all that are the same. */
static bool is_first_of_its_like(const struct plan *plan, int *order, int fixed, uint64_t own)
{
    if (fixed == plan->step_count) {
        uint64_t code = code_in_order(plan, order);
        return code == 0 || code >= own;
    }
    bool first = true;
    for (int i = fixed; i < plan->step_count && first; i++) {
        int swapped = order[i];
        order[i] = order[fixed];
        order[fixed] = swapped;
        first = is_first_of_its_like(plan, order, fixed + 1, own);
        order[fixed] = order[i];
        order[i] = swapped;
    }
    return first;
}

static void add_likes(const struct plan *plan, int *order, int fixed, uint64_t own,
                      struct saga_orders *likes)
{
    if (fixed == plan->step_count) {
        if (code_in_order(plan, order) == own)
            memcpy(likes->orders[likes->count++], order, sizeof(likes->orders[0]));
        return;
    }
    for (int i = fixed; i < plan->step_count; i++) {
        int swapped = order[i];
        order[i] = order[fixed];
        order[fixed] = swapped;
        add_likes(plan, order, fixed + 1, own, likes);
        order[fixed] = order[i];
        order[i] = swapped;
    }
}

void saga_likes(const struct plan *plan, struct saga_orders *ret_likes)
{
    int order[WORLD_STEPS_MAX];
    ret_likes->count = 0;
    for (int i = 0; i < WORLD_STEPS_MAX; i++)
        order[i] = i;
    add_likes(plan, order, 0, code_in_order(plan, order), ret_likes);
}

/* The most steps none of which comes after another. */
static int branches(const struct plan *plan)
{
    int most = 0;
    for (uint64_t steps = 0; steps < BIT(plan->step_count); steps++) {
        bool beside = true;
        int count = __builtin_popcountll(steps);
        for (int i = 0; i < plan->step_count; i++)
            beside = beside && !(steps & BIT(i) && plan->steps[i].descendants & steps);
        if (beside && count > most)
            most = count;
    }
    return most;
}

static void try_saga(int count, const enum step_type *types, const uint64_t *after,
                     saga_visitor *visitor, void *context)
{
    static struct plan plan;
    int order[WORLD_STEPS_MAX] = {0};
    if (!make_plan(count, types, after, &plan) || branches(&plan) > BRANCHES_MAX)
        return;
    for (int i = 0; i < count; i++)
        order[i] = i;
    if (is_first_of_its_like(&plan, order, 0, code_in_order(&plan, order)))
        visitor(context, &plan);
}

static void choose_graph(int graph, int count, uint64_t *ret_after)
{
    for (int i = 0, bit = 0; i < count; bit += i, i++)
        ret_after[i] = (uint64_t)(graph >> bit) & (BIT(i) - 1);
}

/* The types of a set, in their order. */
struct choice {
    enum step_type types[TYPE_COUNT];
    int count;
};

static struct choice choice_of(uint32_t types)
{
    struct choice choice = {.count = 0};
    for (int type = 0; type < TYPE_COUNT; type++) {
        if (types >> type & 1)
            choice.types[choice.count++] = (enum step_type)type;
    }
    return choice;
}

/* In how many ways so many steps can be of these types. */
static int choice_ways(const struct choice *choice, int count)
{
    int ways = 1;
    for (int i = 0; i < count; i++)
        ways *= choice->count;
    return ways;
}

static void choose_types(const struct choice *choice, int way, int count,
                         enum step_type *ret_chosen)
{
    for (int i = 0, rest = way; i < count; i++, rest /= choice->count)
        ret_chosen[i] = choice->types[rest % choice->count];
}

/* Every order of the names, as the place of each step's name in `names`. */
#define NAMES 3
static const int orders[][NAMES] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                    {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

/* Of shorter sagas, two orders may begin alike. */
static bool begins_anew(size_t order, int count)
{
    bool anew = true;
    for (size_t before = 0; before < order; before++)
        anew = anew && memcmp(orders[before], orders[order], (size_t)count * sizeof(int)) != 0;
    return anew;
}

static void each_version_of(int count, uint32_t types, saga_visitor *visitor, void *context)
{
    static struct plan plan;
    enum step_type chosen[NAMES];
    uint64_t after[NAMES];
    const struct choice choice = choice_of(types);
    int ways = choice_ways(&choice, count);
    for (int i = 0; i < ways << (count * (count - 1) / 2); i++) {
        choose_graph(i / ways, count, after);
        choose_types(&choice, i % ways, count, chosen);
        if (!make_plan(count, chosen, after, &plan))
            continue;
        plan.version = 2;
        for (size_t order = 0; order < sizeof(orders) / sizeof(orders[0]); order++) {
            for (int j = 0; j < count; j++)
                plan.steps[j].name = names[orders[order][j]];
            if (begins_anew(order, count))
                visitor(context, &plan);
        }
    }
}

void sagas_each_version(int most, uint32_t types, saga_visitor *visitor, void *context)
{
    assert(most <= NAMES);
    for (int count = 1; count <= most; count++)
        each_version_of(count, types, visitor, context);
}

void sagas_each(int step_count, uint32_t types, saga_visitor *visitor, void *context)
{
    enum step_type chosen[WORLD_STEPS_MAX];
    uint64_t after[WORLD_STEPS_MAX];
    int edges = step_count * (step_count - 1) / 2;
    const struct choice choice = choice_of(types);
    int ways = choice_ways(&choice, step_count);
    assert(step_count <= WORLD_STEPS_MAX);
    for (int graph = 0; graph < 1 << edges; graph++) {
        choose_graph(graph, step_count, after);
        for (int way = 0; way < ways; way++) {
            choose_types(&choice, way, step_count, chosen);
            try_saga(step_count, chosen, after, visitor, context);
        }
    }
}

void saga_describe(const struct plan *plan, char *out, size_t capacity)
{
    size_t at = 0;
    for (int i = 0; i < plan->step_count && at < capacity; i++) {
        at += (size_t)snprintf(out + at, capacity - at, "%s%c", i > 0 ? " " : "",
                               letters[type_of(&plan->steps[i])]);
        for (int j = 0; j < i && at < capacity; j++) {
            if (plan->steps[i].after & BIT(j))
                at += (size_t)snprintf(out + at, capacity - at, "%d", j);
        }
    }
}

void saga_make(const char *description, struct plan *ret_plan)
{
    enum step_type types[SAGA_STEPS_MAX];
    uint64_t after[SAGA_STEPS_MAX] = {0};
    int count = 0;
    for (const char *at = description; *at; at++) {
        const char *letter = strchr(letters, *at);
        if (*at == ' ')
            continue;
        if (*at >= '0' && *at <= '9' && count > 0) {
            after[count - 1] |= BIT(*at - '0');
        } else if (letter && count < SAGA_STEPS_MAX &&
                   count < (int)(sizeof(names) / sizeof(names[0]))) {
            types[count++] = (enum step_type)(letter - letters);
        } else {
            fprintf(stderr, "no saga: %s\n", description);
            exit(2);
        }
    }
    if (!make_plan(count, types, after, ret_plan)) {
        fprintf(stderr, "publish would refuse: %s\n", description);
        exit(2);
    }
}
