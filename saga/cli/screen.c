#include "saga/cli/screen.h"
#include "outbox/runtime/buffer.h"
#include "outbox/runtime/clock.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define OPENING "\x1b[?1049h\x1b[?25l" /* the alternate screen, no cursor */
#define CLOSING "\x1b[?25h\x1b[?1049l"

#define ROWS_WITHOUT_AN_ANSWER    24
#define COLUMNS_WITHOUT_AN_ANSWER 80

/* What signal handlers look at is set before they are installed. */
static struct {
    bool is_open;
    bool has_keys; /* standard input is a terminal too */
    struct termios before;
    struct buffer text, frame;
} screen;
static volatile sig_atomic_t size_changed;

/* write and tcsetattr may be called in a signal handler (POSIX, 2.4.3). */
static void put_back(void)
{
    ssize_t written = write(STDOUT_FILENO, CLOSING, sizeof CLOSING - 1);
    (void)written; /* it is gone, or nobody looks */
    if (screen.has_keys)
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &screen.before);
}

static void on_end(int signo)
{
    put_back();
    if (signo == SIGINT)
        _exit(0);
    (void)signal(signo, SIG_DFL); /* delivered when the handler returns */
    (void)raise(signo);
}

static void on_size(int signo)
{
    (void)signo;
    size_changed = 1;
}

static void handle(int signo, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler};
    sigemptyset(&action.sa_mask);
    (void)sigaction(signo, &action, NULL); /* fails for a wrong number only */
}

/* Single keys, unseen. No Ctrl-Z: it would leave the terminal like this. */
static void take_keys(void)
{
    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &screen.before) < 0)
        return;
    struct termios raw = screen.before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VSUSP] = _POSIX_VDISABLE;
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    screen.has_keys = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

int screen_open(struct error *error)
{
    if (!isatty(STDOUT_FILENO))
        return error_set(error, ERROR_USAGE, RETRY_NEVER, "standard output is no terminal");
    buffer_init(&screen.text, 0);
    buffer_init(&screen.frame, 0);
    take_keys();
    screen.is_open = true;
    handle(SIGINT, on_end);
    handle(SIGTERM, on_end);
    handle(SIGHUP, on_end);
    handle(SIGWINCH, on_size);
    buffer_append_text(&screen.frame, OPENING);
    return 0;
}

static void write_frame(void)
{
    while (buffer_length(&screen.frame) > 0) {
        ssize_t written =
            write(STDOUT_FILENO, buffer_data(&screen.frame), buffer_length(&screen.frame));
        if (written < 0 && errno != EINTR)
            break; /* the terminal is gone: a signal says so */
        buffer_take(&screen.frame, written > 0 ? (size_t)written : 0);
    }
    buffer_clear(&screen.frame);
}

/* As many bytes of the line as fit into the columns; a character takes one. */
static size_t bytes_that_fit(const char *line, size_t bytes, int columns)
{
    size_t i = 0;
    while (i < bytes) {
        if (((unsigned char)line[i] & 0xC0) != 0x80 && columns-- == 0)
            break;
        i++;
    }
    return i;
}

static void draw(void)
{
    struct winsize size = {0};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_row == 0 || size.ws_col == 0)
        size =
            (struct winsize){.ws_row = ROWS_WITHOUT_AN_ANSWER, .ws_col = COLUMNS_WITHOUT_AN_ANSWER};
    const char *line = buffer_text(&screen.text);
    buffer_append_text(&screen.frame, "\x1b[H");
    for (int row = 0; row < size.ws_row && *line != '\0'; row++) {
        size_t bytes = strcspn(line, "\n");
        buffer_append_text(&screen.frame, row > 0 ? "\r\n" : "");
        buffer_append(&screen.frame, line, bytes_that_fit(line, bytes, size.ws_col));
        buffer_append_text(&screen.frame, "\x1b[K"); /* what stood here is longer, perhaps */
        line += bytes + (line[bytes] == '\n');
    }
    buffer_append_text(&screen.frame, "\x1b[J");
    write_frame();
}

void screen_draw(const char *text)
{
    buffer_clear(&screen.text);
    buffer_append_text(&screen.text, text);
    draw();
}

/* True when somebody wants to leave: a q, or an end of input. */
static bool leaving(void)
{
    char keys[64];
    ssize_t count = read(STDIN_FILENO, keys, sizeof keys);
    if (count <= 0)
        return count == 0 || errno != EINTR;
    return memchr(keys, 'q', (size_t)count) != NULL || memchr(keys, 'Q', (size_t)count) != NULL;
}

bool screen_wait(int64_t us)
{
    int64_t end_us = clock_monotonic_us(&clock_system) + us;
    for (;;) {
        int64_t left_us = end_us - clock_monotonic_us(&clock_system);
        struct pollfd keys = {.fd = screen.has_keys ? STDIN_FILENO : -1, .events = POLLIN};
        if (size_changed) {
            size_changed = 0;
            draw();
        }
        if (left_us <= 0)
            return true;
        if (poll(&keys, 1, (int)(left_us / US_PER_MS) + 1) > 0 && leaving())
            return false;
    }
}

void screen_close(void)
{
    if (!screen.is_open)
        return;
    screen.is_open = false;
    handle(SIGINT, SIG_DFL);
    handle(SIGTERM, SIG_DFL);
    handle(SIGHUP, SIG_DFL);
    handle(SIGWINCH, SIG_DFL);
    put_back();
    buffer_free(&screen.text);
    buffer_free(&screen.frame);
}
