/* play.h: a whole saga-worker of one role, between a PostgreSQL that a test plays and queues that
 * are no broker's, in which one thing after the other goes wrong.
 *
 * A play says what the database answers, what it keeps at a COMMIT, and when all is done. Here is
 * what every play has in common: transactions, the loss of connections, time, and the faults: each
 * question in turn is refused, in each way; its answer is lost; it cannot be sent; each event of
 * the broker is lost. Whatever it was, the play is played to its end, or the worker has said that
 * no retry can help. On the way it is asserted that no transaction is begun inside another, that
 * nothing is asked in one that has failed, and that what went wrong was logged. */
#ifndef SAGAPOST_TESTS_WORKER_PLAY_H
#define SAGAPOST_TESTS_WORKER_PLAY_H

#include "saga/worker/worker.h"
#include "tests/unit/amqp/fake_broker.h"
#include "tests/unit/pg/fake_session.h"
#include "tests/unit/runtime/runtime_test.h"

struct play {
    const char *roles;
    void (*begin)(void);  /* nothing has happened yet; the broker is empty */
    bool (*answer)(void); /* the oldest question, with what it writes noted; false: unknown */
    void (*commit)(void); /* what was noted took place */
    void (*forget)(void); /* it did not */
    bool (*is_done)(void);
};

struct stage {
    struct clock_fake clock;
    struct loop *loop;
    struct config *config;
    struct daemon_context context;
    int log;
    bool is_finished;    /* daemon_finished was called */
    struct error finish; /* code 0: in good order */
    char what[64];       /* the last thing that was asked when a fault struck */
};

extern struct stage stage;

/* Around each test. */
int stage_open(const char *roles);
int stage_close(void);

/* Begins the play, with the connections up or on their way. */
void play_start(const struct play *play);
/* Answers, delivers and lets time pass until `until`; fails when it comes to no end. */
void play_until(const struct play *play, bool (*until)(void));
/* Drains and stops; the log is left to be read. */
void play_stop(const struct play *play);
/* What was logged since play_start. */
const char *play_logged(void);
/* For play->answer: the oldest question is refused; its transaction has failed. */
void play_refuse(enum error_retry retry, const char *sqlstate);
/* The connection to PostgreSQL is lost; a new one comes. */
void play_loses_session(const struct play *play);

/* All faults at all places. */
void play_with_faults(const struct play *play, int places_min);
/* Each allocation of the start fails. */
void play_without_memory(const struct play *play);

#endif
