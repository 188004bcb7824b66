/* failpoint.h: named places at which a test kills the process.
 *
 * In a build with -Dfailpoints=true, SAGAPOST_FAILPOINT=name[:nth] makes the nth passage (default:
 * the first) through FAILPOINT("name") raise SIGKILL, and name:nth:stop SIGSTOP, after which it
 * goes on when it is told to. In any other build FAILPOINT is nothing. */
#ifndef SAGAPOST_RUNTIME_FAILPOINT_H
#define SAGAPOST_RUNTIME_FAILPOINT_H

#ifdef SAGAPOST_FAILPOINTS
void failpoint_pass(const char *name);
#define FAILPOINT(name) failpoint_pass(name)
#else
#define FAILPOINT(name) ((void)0)
#endif

#endif
