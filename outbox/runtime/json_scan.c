/* A cursor with a sticky error over the text, without recursion: what is open is a stack of levels
 * of fixed size, so that no input can grow the C stack. The names of all open objects are one stack
 * too; when an object closes, its names are sorted and neighbours compared, which bounds the work
 * against duplicates by bytes times log(members). */
#include "outbox/runtime/json_scan.h"

#include "outbox/runtime/json_lexical.h"
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_INLINE 64 /* a message with more names open at once costs an allocation */

/* PostgreSQL's numeric: Appendix "Numeric Types", table 8.2. */
#define NUMBER_INTEGER_DIGITS_MAX  131072
#define NUMBER_FRACTION_DIGITS_MAX 16383
#define EXPONENT_SATURATED         10000000

struct name {
    const char *text; /* between the quotes, escapes unresolved */
    size_t bytes;
};

struct level {
    bool is_object;
    size_t first_name;
};

struct scan {
    const char *start, *next, *end;
    const struct json_limits *limits;
    size_t written_out; /* bytes of the document with its numbers written out */
    int depth;
    struct level levels[JSON_DEPTH_MAX];
    struct name inline_names[NAMES_INLINE];
    struct name *names;
    size_t name_count, name_capacity;
    int code; /* sticky */
    struct error *error;
};

static void fail_at(struct scan *scan, const char *at, enum error_code code, const char *reason)
{
    if (!scan->code)
        scan->code = error_set(scan->error, code, RETRY_POISON, "JSON at byte %td: %s",
                               at - scan->start, reason);
}

static void fail(struct scan *scan, const char *reason)
{
    fail_at(scan, scan->next, ERROR_PROTOCOL, reason);
}

/* -1 at the end. */
static int peek(const struct scan *scan)
{
    return scan->next < scan->end ? (unsigned char)*scan->next : -1;
}

static void skip_space(struct scan *scan)
{
    while (json_is_space(peek(scan)))
        scan->next++;
}

/* --- strings -------------------------------------------------------------------------------- */

/* At the opening quote. *ret_inside is what is between the quotes. */
static void scan_string(struct scan *scan, struct name *ret_inside)
{
    const char *inside = ++scan->next;

    while (!scan->code && peek(scan) != '"') {
        uint32_t character;
        const char *reason = "the string does not end";
        size_t length = 0;
        if (scan->next < scan->end)
            length = json_decode_character(scan->next, (size_t)(scan->end - scan->next), &character,
                                           &reason);
        if (!length)
            fail(scan, reason);
        scan->next += length;
    }
    if (scan->code)
        return;
    *ret_inside = (struct name){inside, (size_t)(scan->next - inside)};
    scan->next++;
}

/* --- names ---------------------------------------------------------------------------------- */

/* Order by characters, which is the order of their UTF-8 bytes. */
static int compare_names(const void *a_pointer, const void *b_pointer)
{
    const struct name *a = a_pointer, *b = b_pointer;
    size_t i = 0, j = 0;

    if (!memchr(a->text, '\\', a->bytes) && !memchr(b->text, '\\', b->bytes)) {
        size_t common = a->bytes < b->bytes ? a->bytes : b->bytes;
        int order = memcmp(a->text, b->text, common);
        if (order)
            return order;
        return a->bytes < b->bytes ? -1 : a->bytes > b->bytes;
    }
    while (i < a->bytes && j < b->bytes) {
        const char *reason;
        uint32_t x = 0, y = 0;
        size_t x_bytes = json_decode_character(a->text + i, a->bytes - i, &x, &reason);
        size_t y_bytes = json_decode_character(b->text + j, b->bytes - j, &y, &reason);
        assert(x_bytes && y_bytes); /* both were checked */
        if (x != y)
            return x < y ? -1 : 1;
        i += x_bytes;
        j += y_bytes;
    }
    if (i < a->bytes)
        return 1;
    return j < b->bytes ? -1 : 0;
}

static void push_name(struct scan *scan, const struct name *name)
{
    if (scan->name_count == scan->name_capacity) {
        size_t capacity = scan->name_capacity * 2;
        struct name *old = scan->names == scan->inline_names ? NULL : scan->names;
        struct name *names = reallocarray(old, capacity, sizeof(struct name));
        if (!names) {
            scan->code = error_set(scan->error, ERROR_NO_MEMORY, RETRY_LATER,
                                   "no memory for the member names of a JSON object");
            return;
        }
        if (!old)
            memcpy(names, scan->inline_names, sizeof(scan->inline_names));
        scan->names = names;
        scan->name_capacity = capacity;
    }
    scan->names[scan->name_count++] = *name;
}

/* The names of the object that closes here. */
static void check_names(struct scan *scan, size_t first)
{
    struct name *names = scan->names + first;
    size_t count = scan->name_count - first;
    size_t i;

    if (count > 1)
        qsort(names, count, sizeof(struct name), compare_names);
    for (i = 1; i < count; i++)
        if (compare_names(&names[i - 1], &names[i]) == 0)
            fail_at(scan, names[i - 1].text > names[i].text ? names[i - 1].text : names[i].text,
                    ERROR_PROTOCOL, "a member name given twice in one object");
    scan->name_count = first;
}

/* A name and its colon. */
static void scan_name(struct scan *scan)
{
    struct name name = {0};

    if (peek(scan) != '"') {
        fail(scan, "expected a member name in quotes");
        return;
    }
    scan_string(scan, &name);
    skip_space(scan);
    if (!scan->code && peek(scan) != ':')
        fail(scan, "expected ':' after a member name");
    if (scan->code)
        return;
    scan->next++;
    push_name(scan, &name);
}

/* --- numbers and words ---------------------------------------------------------------------- */

static int64_t scan_digits(struct scan *scan)
{
    const char *first = scan->next;

    while (json_is_digit(peek(scan)))
        scan->next++;
    if (scan->next == first)
        fail(scan, "expected a digit");
    return scan->next - first;
}

/* 0 where there is none; saturated. */
static int64_t scan_exponent(struct scan *scan)
{
    int64_t exponent = 0;
    bool negative;

    if (peek(scan) != 'e' && peek(scan) != 'E')
        return 0;
    scan->next++;
    negative = peek(scan) == '-';
    if (negative || peek(scan) == '+')
        scan->next++;
    if (!json_is_digit(peek(scan)))
        fail(scan, "expected a digit");
    for (; json_is_digit(peek(scan)); scan->next++)
        if (exponent < EXPONENT_SATURATED)
            exponent = exponent * 10 + (*scan->next - '0');
    return negative ? -exponent : exponent;
}

/* numeric writes 1e100000 out: eight bytes become a hundred thousand. The single number must fit
 * into numeric, and all of them written out into bytes_max. */
static void check_written_out(struct scan *scan, const char *first, int64_t integer_digits,
                              int64_t fraction_digits, int64_t exponent)
{
    int64_t left = integer_digits + exponent;
    int64_t right = fraction_digits - exponent;

    if (left > NUMBER_INTEGER_DIGITS_MAX || right > NUMBER_FRACTION_DIGITS_MAX) {
        fail_at(scan, first, ERROR_LIMIT,
                "a number of more digits than PostgreSQL's numeric can hold");
        return;
    }
    if (exponent > 0)
        scan->written_out += (size_t)left;
    else if (exponent < 0)
        scan->written_out += (size_t)right;
    if (scan->written_out > scan->limits->bytes_max)
        fail_at(scan, first, ERROR_LIMIT,
                "with its numbers written out the document exceeds the limit of bytes");
}

static void scan_number(struct scan *scan)
{
    const char *first = scan->next;
    int64_t integer_digits = 0, fraction_digits = 0, exponent;

    if (peek(scan) == '-')
        scan->next++;
    if (peek(scan) == '0')
        scan->next++;
    else
        integer_digits = scan_digits(scan);
    if (peek(scan) == '.') {
        scan->next++;
        fraction_digits = scan_digits(scan);
    }
    exponent = scan_exponent(scan);
    if (!scan->code)
        check_written_out(scan, first, integer_digits, fraction_digits, exponent);
}

static void scan_word(struct scan *scan, const char *word)
{
    size_t bytes = strlen(word);

    if ((size_t)(scan->end - scan->next) < bytes || memcmp(scan->next, word, bytes) != 0)
        fail(scan, "expected a value");
    else
        scan->next += bytes;
}

/* --- structure ------------------------------------------------------------------------------ */

/* Behind the bracket that opens. True when something is inside; then a value is next. */
static bool scan_open(struct scan *scan, bool is_object)
{
    if (scan->depth == scan->limits->depth_max) {
        fail_at(scan, scan->next, ERROR_LIMIT, "nested deeper than the limit");
        return false;
    }
    scan->next++;
    scan->levels[scan->depth++] = (struct level){is_object, scan->name_count};
    skip_space(scan);
    if (peek(scan) == (is_object ? '}' : ']'))
        return false;
    if (is_object)
        scan_name(scan);
    return true;
}

/* A value begins here. True when it has values inside, the first of which is next. */
static bool scan_begin(struct scan *scan)
{
    struct name inside;
    int c = peek(scan);

    switch (c) {
    case '{':
        return scan_open(scan, true);
    case '[':
        return scan_open(scan, false);
    case '"':
        scan_string(scan, &inside);
        break;
    case 'n':
        scan_word(scan, "null");
        break;
    case 't':
        scan_word(scan, "true");
        break;
    case 'f':
        scan_word(scan, "false");
        break;
    default:
        if (c == '-' || json_is_digit(c))
            scan_number(scan);
        else
            fail(scan, "expected a value");
    }
    return false;
}

/* Behind a value: closes what ends here. True when another value is next. */
static bool scan_continue(struct scan *scan)
{
    while (!scan->code && scan->depth > 0) {
        const struct level *level = &scan->levels[scan->depth - 1];
        int c;
        skip_space(scan);
        c = peek(scan);
        if (c == ',') {
            scan->next++;
            skip_space(scan);
            if (level->is_object)
                scan_name(scan);
            return true;
        }
        if (c != (level->is_object ? '}' : ']')) {
            fail(scan, level->is_object ? "expected ',' or '}'" : "expected ',' or ']'");
            return false;
        }
        scan->next++;
        if (level->is_object)
            check_names(scan, level->first_name);
        scan->depth--;
    }
    return false;
}

int json_check(const char *text, size_t bytes, const struct json_limits *limits,
               struct json_span *ret_root, struct error *error)
{
    struct scan scan = {.start = text,
                        .next = text,
                        .end = text + bytes,
                        .limits = limits,
                        .written_out = bytes,
                        .name_capacity = NAMES_INLINE,
                        .error = error};
    const char *root;
    size_t root_bytes;

    assert(limits->depth_max > 0 && limits->depth_max <= JSON_DEPTH_MAX);
    if (bytes > limits->bytes_max)
        return error_set(error, ERROR_LIMIT, RETRY_POISON,
                         "JSON of %zu bytes exceeds the limit of %zu", bytes, limits->bytes_max);
    scan.names = scan.inline_names;
    skip_space(&scan);
    root = scan.next;
    while (!scan.code && (scan_begin(&scan) || scan_continue(&scan)))
        skip_space(&scan);
    root_bytes = (size_t)(scan.next - root);
    skip_space(&scan);
    if (scan.next != scan.end)
        fail(&scan, "expected the end after the value");
    if (scan.names != scan.inline_names)
        free(scan.names);
    if (!scan.code && ret_root)
        *ret_root = (struct json_span){root, root_bytes, json_kind_of(*root)};
    return scan.code;
}
