/* world_pack.c: a world as a key of a few words, and back; a world and a move for people. */
#include "tests/machine/world.h"

#include "saga/machine/table.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* Packing: exact, so that two worlds are the same if and only if their keys are. Each field has its
 * place in a word: one word for the saga, half a word for each step. */

struct packer {
    uint64_t word;
    int at;
};

static inline void put(struct packer *packer, unsigned value, int bits)
{
    assert(value < 1u << bits);
    packer->word |= (uint64_t)value << packer->at;
    packer->at += bits;
}

static inline unsigned get(struct packer *packer, int bits)
{
    unsigned value = (unsigned)(packer->word >> packer->at) & ((1u << bits) - 1);
    packer->at += bits;
    return value;
}

/* What the machine has written down comes first, then what only the walk knows. */
#define SAGA_BITS 14

static uint64_t pack_saga(const struct world *world)
{
    struct packer packer = {0};
    put(&packer, world->instance.state, 3);
    put(&packer, world->instance.phase, 3);
    put(&packer, world->instance.paused, 1);
    put(&packer, world->instance.cancel_requested, 1);
    put(&packer, world->instance.deadline_us != 0, 1);
    put(&packer, world->migrated, 1);
    for (int i = 0; i < WORLD_FANNED_STEPS_MAX; i++)
        put(&packer, (unsigned)world->instance.steps[i].elements, 2);
    assert(packer.at == SAGA_BITS);
    put(&packer, world->cancelled, 1);
    put(&packer, world->has_been_paused, 1);
    put(&packer, world->lied, 1);
    put(&packer, (unsigned)world->operators_used, 2);
    return packer.word;
}

static void unpack_saga(uint64_t word, struct world *world)
{
    struct packer packer = {word, 0};
    world->instance.state = (enum saga_state)get(&packer, 3);
    world->instance.phase = (enum saga_phase)get(&packer, 3);
    world->instance.paused = get(&packer, 1);
    world->instance.cancel_requested = get(&packer, 1);
    world->instance.deadline_us = get(&packer, 1) ? WORLD_LATER : 0;
    world->migrated = get(&packer, 1);
    for (int i = 0; i < WORLD_FANNED_STEPS_MAX; i++)
        world->instance.steps[i].elements = (int)get(&packer, 2);
    world->cancelled = get(&packer, 1);
    world->has_been_paused = get(&packer, 1);
    world->lied = get(&packer, 1);
    world->operators_used = (int)get(&packer, 2);
}

#define STEP_BITS    32
#define STATUS_BITS  14
#define ROUND_BITS   3
#define ATTEMPT_BITS 2

static uint64_t pack_step(const struct step_status *status, const struct truth *truth)
{
    struct packer packer = {0};
    put(&packer, status->state, 5);
    put(&packer, (unsigned)status->round, ROUND_BITS);
    put(&packer, (unsigned)status->undo_round, ROUND_BITS);
    put(&packer, (unsigned)status->attempt, ATTEMPT_BITS);
    put(&packer, status->due_us != 0, 1);
    assert(packer.at == STATUS_BITS);
    put(&packer, truth->action, 2);
    put(&packer, (unsigned)truth->failed_round, ROUND_BITS);
    put(&packer, (unsigned)truth->sent_round, ROUND_BITS);
    put(&packer, (unsigned)truth->undo_failed_round, ROUND_BITS);
    put(&packer, (unsigned)truth->undo_sent_round, ROUND_BITS);
    put(&packer, truth->undone, 1);
    put(&packer, truth->probe_sent, 1);
    put(&packer, truth->by_hand, 1);
    put(&packer, truth->expired, 1);
    assert(packer.at == STEP_BITS);
    return packer.word;
}

static void unpack_step(uint64_t word, struct step_status *status, struct truth *truth)
{
    struct packer packer = {word, 0};
    status->state = (enum step_state)get(&packer, 5);
    status->round = (int)get(&packer, ROUND_BITS);
    status->undo_round = (int)get(&packer, ROUND_BITS);
    status->attempt = (int)get(&packer, ATTEMPT_BITS);
    status->due_us = get(&packer, 1) ? WORLD_NOW : 0;
    truth->action = (enum outcome)get(&packer, 2);
    truth->failed_round = (int)get(&packer, ROUND_BITS);
    truth->sent_round = (int)get(&packer, ROUND_BITS);
    truth->undo_failed_round = (int)get(&packer, ROUND_BITS);
    truth->undo_sent_round = (int)get(&packer, ROUND_BITS);
    truth->undone = get(&packer, 1);
    truth->probe_sent = get(&packer, 1);
    truth->by_hand = get(&packer, 1);
    truth->expired = get(&packer, 1);
}

/* What is in a slot: a step, or an element of sagas that have some; see world_slot. */
static struct step_status *slot_status(struct instance *instance, int slot)
{
    bool has_elements = instance->steps[0].elements + instance->steps[1].elements > 0;
    if (slot >= WORLD_FANNED_STEPS_MAX && has_elements)
        return &instance->elements[slot - WORLD_FANNED_STEPS_MAX];
    return slot < WORLD_STEPS_MAX ? &instance->steps[slot] : NULL;
}

/* All the steps that there can be: those that the plan has not are as they were made, which is 0.
 */
struct world_key world_pack(const struct world *world)
{
    struct world_key key = {{pack_saga(world)}};
    struct instance *instance = (struct instance *)(uintptr_t)&world->instance; /* only read */
    for (int i = 0; i < WORLD_SLOTS_MAX; i++) {
        const struct step_status *status = slot_status(instance, i);
        if (status)
            key.words[1 + i / 2] |= pack_step(status, &world->truth[i]) << (i % 2 * STEP_BITS);
    }
    return key;
}

void world_unpack(const struct world_key *key, struct world *ret_world)
{
    memset(ret_world, 0, sizeof(*ret_world));
    unpack_saga(key->words[0], ret_world);
    for (int i = 0; i < WORLD_SLOTS_MAX; i++) {
        struct step_status *status = slot_status(&ret_world->instance, i);
        if (status)
            unpack_step(key->words[1 + i / 2] >> (i % 2 * STEP_BITS), status, &ret_world->truth[i]);
    }
}

struct world_key world_saga_key(const struct world_key *key)
{
    const uint64_t status = (UINT64_C(1) << STATUS_BITS) - 1;
    struct world_key saga = {{key->words[0] & ((UINT64_C(1) << SAGA_BITS) - 1)}};
    for (int i = 1; i < KEY_WORDS; i++)
        saga.words[i] = key->words[i] & (status | status << STEP_BITS);
    return saga;
}

struct world_key world_reorder(const struct world_key *key, const int order[WORLD_STEPS_MAX])
{
    struct world_key other = {{key->words[0]}};
    for (int i = 0; i < WORLD_STEPS_MAX; i++) {
        uint64_t step = key->words[1 + order[i] / 2] >> (order[i] % 2 * STEP_BITS);
        other.words[1 + i / 2] |= (step & ((UINT64_C(1) << STEP_BITS) - 1)) << (i % 2 * STEP_BITS);
    }
    return other;
}

/* For people. */

void world_print(const struct plan *plan, const struct world *world)
{
    static const char *const outcomes[] = {"open", "done", "fenced"};
    const struct instance *instance = &world->instance;
    const char *phase = saga_phase_name(instance->phase);
    printf("    %s%s%s%s%s%s:", saga_state_name(instance->state), phase ? "/" : "",
           phase ? phase : "", instance->paused ? " paused" : "",
           instance->cancel_requested ? " cancel" : "", instance->deadline_us ? " deadline" : "");
    for (int i = 0; i < plan->step_count; i++) {
        if (instance->steps[i].elements > 0)
            printf("  %s=%s:", plan->steps[i].name, step_state_name(instance->steps[i].state));
        for (int j = 0; j < machine_unit_count(instance, i); j++) {
            struct unit unit = machine_unit(plan, instance, i, j);
            const struct step_status *status = unit.status;
            const struct truth *truth = &world->truth[world_slot(plan, i, unit.element)];
            printf("  %s[%d]=%s r%d u%d a%d%s (%s%s%s)", plan->steps[i].name, unit.element,
                   step_state_name(status->state), status->round, status->undo_round,
                   status->attempt, status->due_us ? " timer" : "", outcomes[truth->action],
                   truth->failed_round ? " failed" : "", truth->undone ? " undone" : "");
        }
    }
    printf("\n");
}

void move_print(const struct plan *plan, const struct move *move)
{
    const struct machine_event *event = &move->event;
    printf("  %s", machine_event_name(event->type));
    if (event->step >= 0)
        printf(" %s[%d]", plan->steps[event->step].name, event->element);
    if (event->type <= EVENT_EXPIRED)
        printf(" to %s r%d a%d%s", saga_operation_name(event->operation), event->round,
               event->attempt, event->empty ? " empty" : "");
    printf("\n");
}
