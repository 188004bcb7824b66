/* failpoint: kills where it is told to, and nowhere else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "outbox/runtime/failpoint.h"
#include <cmocka.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* How many times a child passes before it is killed; 10 when it is not. */
static int passes(const char *variable, const char *name)
{
    int count = 0, status, ends[2];
    char byte;
    pid_t child;

    assert_int_equal(pipe(ends), 0);
    child = fork();
    if (child == 0) {
        int i;
        if (variable)
            setenv("SAGAPOST_FAILPOINT", variable, 1);
        else
            unsetenv("SAGAPOST_FAILPOINT");
        for (i = 0; i < 10; i++) {
            FAILPOINT("other");
            failpoint_pass(name);
            if (write(ends[1], "x", 1) != 1)
                _exit(2);
        }
        _exit(0);
    }
    close(ends[1]);
    while (read(ends[0], &byte, 1) == 1)
        count++;
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (count == 10)
        assert_int_equal(status, 0);
    else
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    return count;
}

static void kills_at_the_place(void **state)
{
    (void)state;
    assert_int_equal(passes("relay_after_read", "relay_after_read"), 0);
    assert_int_equal(passes("relay_after_read:1", "relay_after_read"), 0);
    assert_int_equal(passes("relay_after_read:4", "relay_after_read"), 3);
}

static void passes_elsewhere(void **state)
{
    (void)state;
    assert_int_equal(passes(NULL, "a"), 10);
    assert_int_equal(passes("", "a"), 10);
    assert_int_equal(passes("ab", "a"), 10);
    assert_int_equal(passes("a", "ab"), 10);
    assert_int_equal(passes("a:11", "a"), 10);
    assert_int_equal(passes("a:0", "a"), 10);
    assert_int_equal(passes("a:-1", "a"), 10);
    assert_int_equal(passes("a:x", "a"), 10);
    assert_int_equal(passes("a2", "a"), 10);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(kills_at_the_place),
        cmocka_unit_test(passes_elsewhere),
    };

    return cmocka_run_group_tests_name("runtime failpoint", tests, NULL, NULL);
}
