/* loop.h: one thread, one loop: descriptors, timers, signals, and work to finish before it sleeps.
 *
 * epoll for descriptors, one timerfd for the earliest timer of a heap, signalfd for signals. A turn
 * of the loop:
 *   1. before-sleep hooks, in the order added, until none of them did work (client libraries hold
 *      bytes in their own buffers while epoll is silent: whoever reads from one drains it here);
 *      after 64 rounds the others get their turn first;
 *   2. sleep until a descriptor, timer or signal;
 *   3. call what is due: timers by due time, then descriptors.
 * A callback may add, change and remove anything, itself included; an event of this turn for a
 * removed descriptor is not delivered, and a timer that is armed for now fires in the next turn. It
 * may not turn or destroy the loop (asserted). Nothing is allocated per event, and arming a timer
 * cannot fail. Not thread-safe; one loop per process.
 *
 * With a clock_fake timers fall due when the test turns the clock and then the loop (loop_turn). */
#ifndef SAGAPOST_RUNTIME_LOOP_H
#define SAGAPOST_RUNTIME_LOOP_H

#include "outbox/runtime/clock.h"
#include "outbox/runtime/error.h"
#include <stdbool.h>
#include <stdint.h>

struct loop;
struct loop_fd;
struct loop_timer;
struct loop_hook;

#define LOOP_READ   1u
#define LOOP_WRITE  2u
#define LOOP_HANGUP 4u /* delivered, never asked for: error or hang-up */

int loop_create(struct loop **ret_loop, const struct clock_source *clock,
                struct error *error) MUST_CHECK;
void loop_destroy(struct loop *loop); /* NULL is fine; removes what is still registered */
static inline void loop_destroyp(struct loop **loop)
{
    loop_destroy(*loop);
}
const struct clock_source *loop_clock(const struct loop *loop);
int64_t loop_now_us(
    const struct loop *loop); /* monotonic; as of the start or the wake-up of this turn */

typedef void loop_fd_callback(void *data, int fd, unsigned events);
int loop_fd_add(struct loop *loop, int fd, unsigned events, loop_fd_callback *callback, void *data,
                struct loop_fd **ret_watch, struct error *error) MUST_CHECK;
void loop_fd_want(struct loop_fd *watch, unsigned events); /* no system call when nothing changes */
/* NULL is fine. Call it before the descriptor is closed, by you or by a library: epoll forgets a
 * closed descriptor silently, and loop_fd_want on such a watch asserts. */
void loop_fd_remove(struct loop_fd *watch);

typedef void loop_timer_callback(void *data);
int loop_timer_create(struct loop *loop, loop_timer_callback *callback, void *data,
                      struct loop_timer **ret_timer, struct error *error) MUST_CHECK;
void loop_timer_arm_at(struct loop_timer *timer,
                       int64_t monotonic_us); /* moves it when armed already; fires once */
void loop_timer_arm_in(struct loop_timer *timer,
                       int64_t delay_us); /* from the clock itself, not from loop_now_us */
void loop_timer_disarm(struct loop_timer *timer);
bool loop_timer_armed(const struct loop_timer *timer);
void loop_timer_destroy(struct loop_timer *timer); /* NULL is fine */

typedef void loop_signal_callback(void *data, int signo);
/* The signal is blocked from here on, after loop_destroy too: one that is still pending must not
 * kill the process while it ends. The last callback for a signal counts. */
int loop_signal_add(struct loop *loop, int signo, loop_signal_callback *callback, void *data,
                    struct error *error) MUST_CHECK;

typedef bool loop_hook_callback(void *data); /* true: did work, ask again before sleeping */
int loop_hook_add(struct loop *loop, loop_hook_callback *callback, void *data,
                  struct loop_hook **ret_hook, struct error *error) MUST_CHECK;
void loop_hook_remove(struct loop_hook *hook);

int loop_run(struct loop *loop, struct error *error) MUST_CHECK; /* until loop_stop */
int loop_turn(struct loop *loop, int64_t sleep_max_us,
              struct error *error) MUST_CHECK; /* one turn; for tests */
void loop_stop(struct loop *loop);

#endif
