/* scene.h: what a test of the session has before it: a broker that follows a script, and a session
 * that is written down. For a test's own file. */
#ifndef SAGAPOST_TESTS_AMQP_SCENE_H
#define SAGAPOST_TESTS_AMQP_SCENE_H

#include "tests/unit/amqp/fake.h"
#include "tests/unit/amqp/recorder.h"

static struct fake fake;
static struct recorder recorder;

static inline void begin(void (*script)(struct fake *fake))
{
    fake_init(&fake);
    recorder_init(&recorder, fake.uri);
    fake_start(&fake, script);
}

/* Time stands still but for clock_fake_advance. */
static inline void begin_turned(void (*script)(struct fake *fake))
{
    fake_init(&fake);
    recorder_init_turned(&recorder, fake.uri);
    fake_start(&fake, script);
}

static inline void finish(void)
{
    recorder_free(&recorder);
    fake_finish(&fake);
}

#endif
