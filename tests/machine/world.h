/* world.h: a saga and everything outside the machine that it talks to, small enough to be walked
 * through exhaustively.
 *
 * The network may lose, repeat, delay and reorder whatever was sent: so a command that was sent
 * once can arrive at any later time, and so can every answer that was ever possible. A participant
 * keeps one outcome per step; it is final (a failure: for its round). Therefore neither commands
 * nor answers need to be stored: what can arrive next follows from the rounds that were sent and
 * from the truth, which is how much of the participants' outcomes has been seen. An outcome that
 * nobody has seen yet is decided when an answer shows it; at the end, what is still open counts as
 * the worst that it could be. Time is not measured: an armed timer may fire at any moment.
 *
 * A walk checks after each move: the invariants of machine_check; that what is called ignored
 * changed nothing; that no command is sent that the truth forbids (an undo before its dependants
 * are undone or while an outcome is open, an action after an undo ...); and at the end that
 * the participants' truth fits what the saga says. */
#ifndef TESTS_MACHINE_WORLD_H
#define TESTS_MACHINE_WORLD_H

#include "saga/machine/machine.h"

#define WORLD_STEPS_MAX        4
#define WORLD_SLOTS_MAX        6 /* steps and elements */
#define WORLD_FANNED_STEPS_MAX 2 /* of a saga with a fan-out */
#define MOVES_MAX              128
#define WORLD_NOW              1 /* of every event, and every step's timer is due by it */
#define WORLD_LATER            2 /* the saga's deadline: whoever wants it too says so */
#define KEY_WORDS              (1 + WORLD_SLOTS_MAX / 2)

/* What may happen beside answers, silence, timers and the saga's deadline. */
struct world_options {
    bool cancel;     /* once */
    bool pause;      /* once, and resumed */
    int operators;   /* so many times: retry, skip, mark_undone, abandon */
    bool expired;    /* participants may forget */
    bool unmappable; /* inputs may not be buildable, conditions not hold, lists be shorter */
    bool lies;       /* one answer may claim an effect that never was */
    bool garbage;    /* in every world, every event that can be said is tried on the machine */
    bool taken_back; /* a saga that succeeded may be a child's, and its parent wants it undone */
    bool
        all_due; /* beside each timer alone, all may be due at once, with the deadline or without */
    bool folded; /* worlds that differ in their steps' names alone are one; no fan-outs */
    uint32_t worlds_max;   /* of a saga; 0: as many as there are */
    const struct plan *to; /* may be migrated to it, once, at any moment; NULL: not */
};

enum outcome { OUTCOME_OPEN, OUTCOME_OK, OUTCOME_FENCED };

/* Of one step, or one element of a fan-out, at its participant. */
struct truth {
    enum outcome action;
    int failed_round; /* rounds up to this one have failed */
    int sent_round;   /* of the action; 0: never */
    bool undone;      /* of a lock: its place in the queue is given up */
    int undo_failed_round;
    int undo_sent_round;
    bool probe_sent; /* of a lock: it was asked for */
    bool by_hand;    /* an operator said that it is undone */
    bool expired;
};

struct world {
    struct instance instance;
    struct truth truth[WORLD_SLOTS_MAX]; /* by world_slot */
    bool cancelled, has_been_paused, lied;
    bool migrated; /* it goes by world_options.to now */
    int operators_used;
};

struct world_key {
    uint64_t words[KEY_WORDS];
};

struct move {
    struct machine_event event;
    struct truth truth; /* of event.step and event.element after it */
    bool is_answer;     /* a definite one */
    bool is_timer;
    bool is_operator;
    bool is_lie;
};

/* What a worker may report about a command that was just decided; MACHINE_EVENT_COUNT: it was sent.
 * Without one, the list of a fan-out is as long as it may be. */
struct refusal {
    enum machine_event_type type;
    int command; /* index in the decision */
    int count;   /* EVENT_SPREAD */
};

/* The i-th report that a worker may make of commands[command], from 0 on; false: there are no more.
 */
bool world_refusal(const struct plan *plan, const struct machine_decision *decision, int command,
                   int i, struct refusal *ret_refusal);

/* Where the truth about a step, or an element, is, and its status in a key. A saga with a fan-out
 * has two steps at most, and its elements come after them. */
int world_slot(const struct plan *plan, int step, int element);

/* Returns NULL, or what is wrong with what the machine did. `refusal` may be NULL. */
const char *world_start(const struct plan *plan, struct world *ret_world,
                        const struct refusal *refusal, struct machine_decision *ret_decision);

/* Everything that can happen next. */
int world_moves(const struct plan *plan, const struct world *world,
                const struct world_options *options, struct move moves[MOVES_MAX]);

/* Tries every event, also such as nobody would send, each on this world alone; looks at nothing but
 * what world_saga_key tells apart. */
const char *world_try_garbage(const struct plan *plan, const struct world *world);

/* Makes a move. `refusal` may be NULL. Returns NULL, or what is wrong with what the machine did.
 * After a migration the world is one of the other plan. */
const char *world_apply(const struct plan *plan, const struct world *world, const struct move *move,
                        const struct refusal *refusal, struct world *ret_after,
                        struct machine_decision *ret_decision);

/* Whether a world is as it should be, however it came to be. NULL, or what is wrong with it. */
const char *world_check(const struct plan *plan, const struct world *world);

struct world_key world_pack(const struct world *world);
void world_unpack(const struct world_key *key, struct world *ret_world);

/* The same for all worlds in which the machine has written down the same, whatever the participants
 * know and whatever may still be asked for. */
struct world_key world_saga_key(const struct world_key *key);

/* The key of the same world with its steps in another order: step order[i] becomes step i. */
struct world_key world_reorder(const struct world_key *key, const int order[WORLD_STEPS_MAX]);

/* For a trace. */
void world_print(const struct plan *plan, const struct world *world);
void move_print(const struct plan *plan, const struct move *move);

#endif
