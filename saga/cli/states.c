#include "saga/cli/states.h"

#include "saga/machine/machine.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool is_one_of(const char *const *names, const char *word, size_t bytes)
{
    for (; *names != NULL; names++)
        if (strlen(*names) == bytes && strncasecmp(*names, word, bytes) == 0)
            return true;
    return false;
}

enum cli_exit states_check(struct cli *cli, const char *const *names, struct error *error)
{
    const char *at = config_text(cli->config, "state");
    while (at != NULL) {
        size_t bytes = strcspn(at, ",");
        if (!is_one_of(names, at, bytes)) {
            char known[256] = "";
            for (size_t used = 0; *names != NULL && used < sizeof known; names++)
                used += (size_t)snprintf(known + used, sizeof known - used, "%s%s",
                                         used > 0 ? ", " : "", *names);
            error_set(error, ERROR_USAGE, RETRY_NEVER, "--state: there is no \"%.*s\"; it is %s",
                      (int)(bytes < 60 ? bytes : 60), at, known);
            return CLI_USAGE;
        }
        at = at[bytes] == ',' ? at + bytes + 1 : NULL;
    }
    return CLI_DONE;
}

enum cli_exit saga_states_check(struct cli *cli, struct error *error)
{
    const char *names[SAGA_STATE_COUNT + 1] = {NULL};
    for (int i = 0; i < SAGA_STATE_COUNT; i++)
        names[i] = saga_state_name((enum saga_state)i);
    return states_check(cli, names, error);
}
