#include "outbox/runtime/failpoint.h"

#ifdef SAGAPOST_FAILPOINTS

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Whether `wanted` (name[:nth[:stop]]) names this place, and at which passage. */
static long passage_wanted(const char *wanted, const char *name)
{
    size_t bytes = strlen(name);
    const char *rest;

    if (strncmp(wanted, name, bytes) != 0)
        return 0;
    rest = wanted + bytes;
    if (!*rest)
        return 1;
    return *rest == ':' ? strtol(rest + 1, NULL, 10) : 0;
}

void failpoint_pass(const char *name)
{
    static long passages; /* of the one place that is wanted */
    const char *set = getenv("SAGAPOST_FAILPOINT");
    long wanted = set ? passage_wanted(set, name) : 0;

    if (wanted > 0 && ++passages == wanted) {
        if (strstr(set, ":stop")) {
            raise(SIGSTOP);
            return;
        }
        kill(getpid(), SIGKILL);
        /* The signal is delivered before kill returns to a single-threaded process; never go on
         * past this place in any case. */
        abort();
    }
}

#else

typedef int failpoint_unused; /* an empty translation unit is not C */

#endif
