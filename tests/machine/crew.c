/* crew.c: see crew.h. */
#include "tests/machine/crew.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct crew {
    _Atomic uint64_t *next; /* piece that nobody has taken; shared */
    uint64_t at, taken;     /* of this process: where it is, and what it has taken ahead */
    bool has_taken;
};

bool crew_takes(struct crew *crew)
{
    if (!crew->has_taken) {
        crew->taken = atomic_fetch_add(crew->next, 1);
        crew->has_taken = true;
    }
    bool takes = crew->at++ == crew->taken;
    crew->has_taken = !takes;
    return takes;
}

static pid_t start(struct crew *crew, crew_work *work, void *tally, void *context)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) {
        perror("fork");
        exit(2);
    }
    if (pid > 0)
        return pid;
    work(crew, tally, context);
    fflush(stdout);
    _exit(0);
}

static int wait_for(int jobs)
{
    int lost = 0;
    for (int i = 0; i < jobs; i++) {
        int status = 0;
        if (wait(&status) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
            lost++;
    }
    return lost;
}

int crew_run(int jobs, crew_work *work, void *context, void *tallies, size_t tally_bytes)
{
    assert(jobs >= 1 && jobs <= CREW_MAX);
    size_t bytes = sizeof(_Atomic uint64_t) + (size_t)jobs * tally_bytes;
    char *shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    struct crew crew = {.next = (_Atomic uint64_t *)(void *)shared};
    char *tally = shared + sizeof(*crew.next);
    int lost = 0;
    if (jobs == 1) {
        work(&crew, tally, context);
    } else {
        for (int i = 0; i < jobs; i++)
            (void)start(&crew, work, tally + (size_t)i * tally_bytes, context);
        lost = wait_for(jobs);
    }
    memcpy(tallies, tally, (size_t)jobs * tally_bytes);
    munmap(shared, bytes);
    return lost;
}
