/* source_private.h: the inside of a source, for source.c (windows and streams) and source_flush.c
 * (waiting until their rows may be published). */
#ifndef SAGAPOST_RELAY_SOURCE_PRIVATE_H
#define SAGAPOST_RELAY_SOURCE_PRIVATE_H

#include "outbox/relay/reading/source.h"
#include "outbox/relay/rows/chunk.h"

enum source_state {
    SOURCE_OFF,
    SOURCE_PRIMING, /* asks where the sequence and the log are; a window may be open already */
    SOURCE_IDLE,    /* between windows */
    SOURCE_POLLING, /* asked for a snapshot */
    SOURCE_READING, /* a window is open */
};

struct stream {
    struct source *source;
    struct chunk *chunk;   /* NULL: none is being taken apart */
    int next;              /* row of it */
    int64_t last_id;       /* read; the next chunk begins after it */
    int64_t end_id, up_to; /* what the window, and what the chunk asked for, ends at */
    struct chunk_size size;
    bool busy;      /* a statement is on its way */
    bool exhausted; /* nothing is left after the chunk */
};

struct source {
    struct source_options options;
    enum source_state state;
    bool finishing, barred;   /* no chunk, no window follows */
    struct snapshot *barrier; /* the end of the last window, until that is opened: barred */
    int32_t share, shares;
    struct stream fresh, late;
    struct buffer late_xids; /* of the open window, as text */
    uint64_t window_start;   /* number of its first row */
    int64_t sequence;        /* last id given out at the last poll */
    bool sequence_fell;      /* it was behind an id that it had given out */
    size_t in_memory;        /* bytes of chunks */
    struct pg_params params;
    /* The bound's candidate: see source.h. */
    int64_t own_sequence;
    uint64_t own_xact;
    /* Waiting for the log to reach the disk. */
    struct loop_timer *flush_timer;
    bool flush_busy;
    int64_t flush_since_us; /* 0: nothing waits */
    bool nudged;            /* once is enough for standbys: they get what is in the log */
    struct publish_after_wait standbys_wait;
};

/* source.c */
/* True when the answer is to be used: none is of use after source_stop. */
bool source_answered(struct source *source, const struct error *failure);
bool source_send(struct source *source, const struct pg_statement *statement,
                 const struct pg_params *params, pg_callback *callback, void *data);

/* source_flush.c */
bool source_needs_standbys(const struct source *source);
bool source_waits_for_flush(const struct source *source);
void source_permit(struct source *source); /* publishes what may be; ends the waiting */
void source_look_at_flush(struct source *source);
void source_look_at_standbys(struct source *source);
void source_on_flush_timer(void *data);

#endif
