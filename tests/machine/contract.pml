/* contract.pml: the participant's contract and the race of its two parties, for Spin.
 *
 *     sh tests/machine/contract.sh              # the search, and the bugs that it must find
 *
 * One step of one saga. The orchestrator sends an action, in up to two rounds, gives up at any moment, probes or undoes at once,
 * and ends the saga by what it is told. Two participants on one database carry out saga.receive and saga.reply, at the same time.
 *
 * A command that was sent arrives at any later time and any number of times, in any order with others, and so does a reply:
 * neither is ever taken back. So a loss is a delivery that does not happen yet; and a participant that is killed between its
 * COMMIT and its acknowledgement is one that meets the same command again. One that is killed earlier has done nothing.
 *
 * The database is what PostgreSQL gives at READ COMMITTED: an INSERT with ON CONFLICT and a SELECT FOR UPDATE wait for the
 * transaction that holds the row (`holder`), see what it has committed, and keep others waiting until COMMIT. What a
 * transaction writes becomes visible at its COMMIT, all at once: outcome, reply, and effect.
 *
 * Each -DBUG_... below takes one rule of the contract away. */

#define ROUNDS 2

mtype = { none, ok, failed, fenced, open, succeeded, compensated };

/* The participant's database: the rows of the action and of its undo in saga.outcome. */
mtype action = none, undo = none;
byte action_round;
byte holder; /* of the action's row, which an undo and a probe lock, too; 0: nobody */

/* The effect, as the service's own tables count it. */
byte effects, undos;

/* On the wire. */
bool sent_action[ROUNDS + 1], sent_probe, sent_undo;
byte probe_round;
bool said_ok, said_no[ROUNDS + 1], said_executed, said_never, said_undone, said_empty;

mtype saga = open;

#define TAKE_ROW atomic { holder == 0 -> holder = _pid + 1 }
#define KILLED   holder = 0 /* and rolled back */

inline repeat_outcome()
{
    if
    :: action == ok -> said_ok = true
    :: action == failed -> said_no[action_round] = true
    :: action == fenced -> said_never = true
    fi
}

#ifdef BUG_OLD_ROUND_RUNS
#define MAY_RUN(round) (action == none || action == failed)
#else
#define MAY_RUN(round) (action == none || (action == failed && action_round < (round)))
#endif

inline work_and_commit(round)
{
    if
#ifdef BUG_EFFECT_OUTSIDE
    :: effects++;
       if
       :: atomic { action = ok; action_round = round; said_ok = true; holder = 0 }
       :: KILLED
       fi
#else
    :: atomic { effects++; action = ok; action_round = round; said_ok = true; holder = 0 }
#endif
    :: atomic { action = failed; action_round = round; said_no[round] = true; holder = 0 }
    :: KILLED
    fi
}

/* A program: it claims the row, works, and writes the outcome into its claim. */
inline meet_action(round)
{
    TAKE_ROW;
    if
    :: MAY_RUN(round) -> work_and_commit(round)
    :: else -> atomic { repeat_outcome(); holder = 0 }
    fi
}

/* A worker with SQL handlers: it looks, works behind a savepoint, and writes the outcome last. Who meets another's outcome there
 * rolls back to the savepoint. */
inline meet_action_in_a_batch(round)
{
    if
    :: atomic { !MAY_RUN(round) -> repeat_outcome() }
    :: MAY_RUN(round) ->
       TAKE_ROW;
       if
#ifdef BUG_LAST_ONE_WINS
       :: true -> work_and_commit(round)
#else
       :: MAY_RUN(round) -> work_and_commit(round)
       :: else -> atomic { repeat_outcome(); holder = 0 }
#endif
       fi
    fi
}

#ifdef BUG_DOES_NOT_WAIT
#define TAKE_ROW_TO_FENCE skip
#define RELEASE           skip
#else
#define TAKE_ROW_TO_FENCE TAKE_ROW
#define RELEASE           holder = 0
#endif

#ifdef BUG_NO_FENCE
#define FENCE skip
#else
#define FENCE action = fenced
#endif

#ifdef BUG_FAILED_IS_NO_FENCE
#define FENCE_FAILED skip
#else
#define FENCE_FAILED FENCE
#endif

inline meet_probe(round)
{
    TAKE_ROW_TO_FENCE;
    if
    :: action == ok -> atomic { said_executed = true; RELEASE }
    :: action == failed && action_round >= round -> atomic { said_no[action_round] = true; RELEASE }
    :: action == failed && action_round < round -> atomic { FENCE_FAILED; said_never = true; RELEASE }
    :: action == none || action == fenced -> atomic { FENCE; said_never = true; RELEASE }
    :: true -> RELEASE /* killed */
    fi
}

inline meet_undo()
{
    TAKE_ROW_TO_FENCE;
    if
    :: undo == ok -> atomic { said_undone = true; RELEASE }
#ifdef BUG_UNDO_IS_FORGOTTEN
    :: action == ok -> atomic { undos++; said_undone = true; RELEASE }
#else
    :: undo == none && action == ok -> atomic { undos++; undo = ok; said_undone = true; RELEASE }
#endif
    :: undo == none && action == failed -> atomic { FENCE_FAILED; said_empty = true; RELEASE }
    :: undo == none && (action == none || action == fenced) -> atomic { FENCE; said_empty = true; RELEASE }
    :: true -> RELEASE /* killed, or its own work failed */
    fi
}

active [2] proctype participant()
{
end:
    do
    :: sent_action[1] -> meet_action(1)
    :: sent_action[1] -> meet_action_in_a_batch(1)
    :: sent_action[2] -> meet_action(2)
    :: sent_action[2] -> meet_action_in_a_batch(2)
    :: sent_probe -> meet_probe(probe_round)
    :: sent_undo -> meet_undo()
    od
}

active proctype orchestrator()
{
    byte round = 1;

    sent_action[1] = true;
forward:
    if
    :: said_ok -> goto took_effect
    :: said_no[round] && round < ROUNDS -> round++; sent_action[round] = true; goto forward
    :: said_no[round] -> goto took_no_effect
    :: true -> goto probe        /* no answer in time, and no attempts left */
    :: true -> goto compensate   /* impatient: the undo may overtake its action */
    fi;
probe:
    atomic { probe_round = round; sent_probe = true }
    if
    :: said_ok || said_executed -> goto took_effect
    :: said_no[round] || said_never -> goto took_no_effect
    fi;
took_effect:
    if
    :: saga = succeeded; goto end
    :: goto compensate           /* another step has failed */
    fi;
compensate:
    sent_undo = true;
    said_undone || said_empty;
took_no_effect:
    saga = compensated;
end:
    skip
}

/* In every state: an effect happens once, is undone once, and not before it happened; what the saga says of itself is true, and stays
 * true whatever arrives after its end. */
#define TRUE_TO_ITS_WORD                                                                                    \
    (effects <= 1 && undos <= effects && (saga != succeeded || (effects == 1 && undos == 0)) &&             \
     (saga != compensated || effects == undos))

active proctype monitor()
{
end:
    atomic { !TRUE_TO_ITS_WORD -> assert(TRUE_TO_ITS_WORD) }
}
