/* streams.h: standard input, output and error, before a program opens anything else.
 *
 * Whoever starts a program may have closed one of them. The next file that is opened then gets its
 * number: a connection to PostgreSQL could be descriptor 2, and every line of the log would be
 * written into it. */
#ifndef SAGAPOST_RUNTIME_STREAMS_H
#define SAGAPOST_RUNTIME_STREAMS_H

/* Puts /dev/null where a standard stream is closed, opened so that reading the input and writing
 * the others still fails, as it would have. Negative, and errno, where that is not possible: the
 * program must end. */
__attribute__((warn_unused_result)) int streams_occupy(void);

#endif
