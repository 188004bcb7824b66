/* no_reason.c: stands for reason.c in the walk, where nobody reads why a saga aborts or is stuck.
 * Texts decide nothing, and writing them would take longer than deciding; test_text.c reads them.
 */
#include "saga/machine/table.h"

void reason_name_unit(char out[REASON_SUBJECT_BYTES], const struct unit *unit)
{
    (void)unit;
    out[0] = '\0';
}

void reason_set_abort(struct instance *instance, const char *subject, const char *text)
{
    (void)instance;
    (void)subject;
    (void)text;
}

void reason_set_stuck(struct instance *instance, const char *subject, const char *text)
{
    (void)instance;
    (void)subject;
    (void)text;
}

void reason_clear_abort(struct instance *instance)
{
    (void)instance;
}

void reason_clear_stuck(struct instance *instance)
{
    (void)instance;
}
