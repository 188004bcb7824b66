/* replay.h: how much `sagapost outbox replay` holds in memory at a time. */
#ifndef SAGAPOST_CLI_REPLAY_H
#define SAGAPOST_CLI_REPLAY_H

#define REPLAY_ROWS_MAX   1000      /* of a batch */
#define REPLAY_BYTES_MAX  (4 << 20) /* the same; one row may exceed it */
#define REPLAY_STRIDE_IDS 20000     /* rows of the log that one statement looks at */

#endif
