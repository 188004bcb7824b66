/* faults.h: makes the nth call of a function fail, so that every error branch can be walked.
 *
 * Works on calls from the code under test: the linker sends them here (--wrap, see meson.build).
 * "alloc" stands for malloc, calloc, reallocarray, strdup and asprintf together. One fault at a
 * time; it fires once. */
#ifndef SAGAPOST_TESTS_FAULTS_H
#define SAGAPOST_TESTS_FAULTS_H

#include <stdbool.h>

#define FAULT_SHORT (-1) /* in place of an errno, for write: only one byte is written */

void fault_arm(const char *function, int nth, int error_number);
/* Ends it; true when it has fired. */
bool fault_disarm(void);

/* The timeout of the last epoll_wait. */
extern int fault_epoll_timeout_ms;

#endif
