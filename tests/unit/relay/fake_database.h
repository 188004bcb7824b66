/* fake_database.h: the relay's database, played on fake_session.h: a log of three rows that one
 * transaction wrote, of which the broker refuses one at first; what was set aside before; an
 * operator's intent; a leaf to be emptied; a number of shares that changes when the test says so.
 *
 *     fake_database_start();
 *     ... fake_database_answer();         -- the oldest request, rightly
 *     ... fake_database_rolls_back();     -- its transaction failed, or its connection is lost
 *
 * What a group of statements wrote counts once its sync is answered. */
#ifndef SAGAPOST_TESTS_RELAY_FAKE_DATABASE_H
#define SAGAPOST_TESTS_RELAY_FAKE_DATABASE_H

#include "tests/unit/pg/fake_session.h"

#define LOG_ROWS      3
#define LOG_ROW_XID   10
#define LOG_SNAPSHOT  "20:20:" /* that sees them all */
#define PARKED_BEFORE 3        /* rows of outbox.parked at the start: waiting, behind it, parked */

enum sharing_state { SHARES_STEADY, SHARES_WANTED, SHARES_RESTED };

void fake_database_start(int64_t now_us);
void fake_database_answer(void);
void fake_database_commits(void);
void fake_database_rolls_back(void);

/* All is settled, nothing is set aside, the intent is answered. */
bool fake_database_is_settled(void);
int fake_database_writes(void); /* of the position */
int fake_database_shares(void);
enum sharing_state fake_database_sharing(void);
void fake_database_wants_shares(void); /* two of them */

/* Until then no batch of outbox.parked is read: the relay has no memory for it, or the server says
 * no. */
void fake_database_batches_fail(int64_t until_us, bool no_memory);
int fake_database_failed_batches(void);
int fake_database_takeovers(void);
bool fake_database_leaf_is_empty(void);

#endif
