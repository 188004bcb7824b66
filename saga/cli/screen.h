/* screen.h: a terminal that is drawn anew every so often.
 *
 *     if (screen_open(&error) < 0) ...            standard output is no terminal
 *     do {
 *         ... screen_draw(buffer_text(&text));    lines; what does not fit is cut off
 *     } while (screen_wait(US_PER_S));            false: q was typed
 *     screen_close();
 *
 * Plain ANSI (ECMA-48, and xterm's alternate screen): whoever looks has their own lines back when
 * it ends. Ctrl-C ends the program at once with status 0, also while a server is waited for; TERM
 * and HUP end it as they do elsewhere; all of them put the terminal back first. There is one
 * terminal, so there is one screen: no handle. */
#ifndef SAGAPOST_CLI_SCREEN_H
#define SAGAPOST_CLI_SCREEN_H

#include "outbox/runtime/error.h"
#include <stdint.h>

int screen_open(struct error *error) MUST_CHECK;
void screen_draw(const char *text);
/* Until the time is over; draws the same again when the terminal's size changes. */
bool screen_wait(int64_t us) MUST_CHECK;
void screen_close(void);

#endif
