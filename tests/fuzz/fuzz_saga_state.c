/* The steps of an instance: what is read can be written, and is the same when it is read again. */
#include "saga/machine/state_json.h"

#include <assert.h>
#include <string.h>

#define ELEMENTS (SAGA_ELEMENTS_MAX / SAGA_STEPS_MAX)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* First byte: how many steps there should be; each may have a few elements. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error error = {0};
    static struct instance first, second;
    char json[STATE_JSON_BYTES_MAX];
    if (size == 0)
        return 0;
    int step_count = 1 + data[0] % SAGA_STEPS_MAX;
    static struct plan plan;
    plan.step_count = step_count;
    for (int i = 0; i < step_count; i++) {
        plan.steps[i].elements_max = ELEMENTS;
        plan.steps[i].elements_from = i * ELEMENTS;
    }
    memset(&first, 0, sizeof(first));
    if (state_json_read((const char *)data + 1, size - 1, &plan, &first, &error) < 0) {
        assert(error.code == ERROR_PROTOCOL && error.message[0]);
        return 0;
    }
    size_t bytes = state_json_write(&first, &plan, json);
    assert(bytes == strlen(json));
    memset(&second, 0, sizeof(second));
    int rc = state_json_read(json, bytes, &plan, &second, &error);
    assert(rc == 0);
    (void)rc;
    assert(memcmp(first.elements, second.elements, sizeof(first.elements)) == 0);
    assert(memcmp(first.steps, second.steps, (size_t)step_count * sizeof(first.steps[0])) == 0);
    return 0;
}
