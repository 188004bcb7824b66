/* streams.c: standard input, output and error. */
#include "outbox/runtime/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int streams_occupy(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
            continue;
        /* The lowest number that is free: this one, since those below are open by now. */
        if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            return -1;
    }
    return 0;
}
