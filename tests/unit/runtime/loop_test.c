#include "loop_test.h"

struct clock_fake fake;
struct loop *loop;
static char trace[256]; /* what callbacks ran, a letter each */

int with_fake_clock(void **state)
{
    struct error error;

    (void)state;
    trace[0] = 0;
    clock_fake_init(&fake, 1000000, 0);
    return loop_create(&loop, &fake.source, &error);
}

int with_system_clock(void **state)
{
    struct error error;

    (void)state;
    trace[0] = 0;
    return loop_create(&loop, &clock_system, &error);
}

int without_loop(void **state)
{
    (void)state;
    loop_destroy(loop);
    loop = NULL;
    return 0;
}

void note(char letter)
{
    size_t used = strlen(trace);

    assert_true(used + 1 < sizeof(trace));
    trace[used] = letter;
    trace[used + 1] = 0;
}

const char *traced(void)
{
    static char copy[sizeof(trace)];

    memcpy(copy, trace, sizeof(copy));
    trace[0] = 0;
    return copy;
}

void turn(void)
{
    must(loop_turn(loop, 0, &error));
}

void on_letter(void *data)
{
    note(*(const char *)data);
}

void on_stop(void *data)
{
    note('s');
    loop_stop(data);
}
