#include "outbox/relay/sharing.h"
#include "relay_test.h"

static void test_verdicts(void **state)
{
    (void)state;
    assert_int_equal(sharing_verdict_of("run"), SHARING_RUN);
    assert_int_equal(sharing_verdict_of("stop"), SHARING_STOP);
    assert_int_equal(sharing_verdict_of("rest"), SHARING_REST);
    assert_int_equal(sharing_verdict_of("lost"), SHARING_LOST);
    assert_int_equal(sharing_verdict_of("running"), SHARING_UNKNOWN);
    assert_int_equal(sharing_verdict_of(""), SHARING_UNKNOWN);
    assert_int_equal(sharing_verdict_of(NULL), SHARING_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_verdicts)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
