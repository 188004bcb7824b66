/* log. */
#include "runtime_test.h"

#include "outbox/runtime/log.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static int sink; /* a file in memory */

static int open_sink(void **state)
{
    (void)state;
    sink = memfd_create("log", MFD_CLOEXEC);
    return sink < 0;
}

static int close_sink(void **state)
{
    (void)state;
    close(sink);
    return 0;
}

/* What was logged since the last time. */
static const char *logged(void)
{
    const char *text = read_back(sink);

    assert_int_equal(ftruncate(sink, 0), 0);
    assert_int_equal(lseek(sink, 0, SEEK_SET), 0);
    return text;
}

/* The rest of the line behind its time. */
static const char *behind_time(const char *line)
{
    static const char shape[] = "dddd-dd-ddTdd:dd:dd.ddddddZ ";
    size_t i;

    for (i = 0; shape[i]; i++)
        assert_true(shape[i] == 'd' ? line[i] >= '0' && line[i] <= '9' : line[i] == shape[i]);
    return line + i;
}

static void logfmt_line(void **state)
{
    (void)state;
    log_configure(LOG_LEVEL_DEBUG, LOG_FORMAT_LOGFMT, sink);
    log_info("connected", LOG_STR("server", "localhost"), LOG_INT("port", INT64_MIN),
             LOG_REAL("load", 0.25), LOG_BOOL("tls", true), LOG_BOOL("old", false),
             LOG_STR("none", NULL), LOG_REAL("nan", NAN), LOG_REAL("inf", INFINITY));
    assert_string_equal(behind_time(logged()),
                        "info msg=\"connected\" server=localhost port=-9223372036854775808 "
                        "load=0.25 tls=true old=false none=null nan=null inf=null\n");
    log_debug("no fields");
    assert_string_equal(behind_time(logged()), "debug msg=\"no fields\"\n");
    log_warn("w");
    assert_string_equal(behind_time(logged()), "warn msg=\"w\"\n");
}

static void logfmt_quotes_where_needed(void **state)
{
    static const struct {
        const char *value, *printed;
    } cases[] = {
        {"", "\"\""},
        {"plain-1.2_x/y:z", "plain-1.2_x/y:z"},
        {"two words", "\"two words\""},
        {"a=b", "\"a=b\""},
        {"say \"hi\"", "\"say \\\"hi\\\"\""},
        {"back\\slash", "\"back\\\\slash\""},
        {"line\nnext\ttab\rcr", "\"line\\nnext\\ttab\\rcr\""},
        {"\x01\x1b[31m\x7f", "\"\\u0001\\u001b[31m\\u007f\""},
        {"\xc2\x9b"
         "31m",
         "\"\\u009b31m\""},                           /* C1: an escape to a terminal too */
        {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"}, /* UTF-8 is itself */
        {"\xff"
         "a\xe2\x82",
         "\"\xef\xbf\xbd"
         "a\xef\xbf\xbd\xef\xbf\xbd\""},
    };
    unsigned i;

    (void)state;
    log_configure(LOG_LEVEL_DEBUG, LOG_FORMAT_LOGFMT, sink);
    for (i = 0; i < COUNT_OF(cases); i++) {
        char expected[128];
        log_info("m", LOG_STR("v", cases[i].value));
        snprintf(expected, sizeof(expected), "info msg=\"m\" v=%s\n", cases[i].printed);
        assert_string_equal(behind_time(logged()), expected);
    }
}

static void json_line(void **state)
{
    const char *line;

    (void)state;
    log_configure(LOG_LEVEL_DEBUG, LOG_FORMAT_JSON, sink);
    log_error("it \"broke\"", LOG_STR("text", "a\nb\xff"), LOG_INT("n", 7), LOG_REAL("r", 1.5),
              LOG_BOOL("b", true), LOG_STR("none", NULL), LOG_REAL("nan", -NAN),
              LOG_STR("odd\"name", "x"));
    line = logged();
    assert_memory_equal(line, "{\"ts\":\"", 7);
    assert_contains(line, "Z\",\"level\":\"error\",\"msg\":\"it \\\"broke\\\"\","
                          "\"text\":\"a\\nb\xef\xbf\xbd\",\"n\":7,\"r\":1.5,\"b\":true,"
                          "\"none\":null,\"nan\":null,\"odd\\\"name\":\"x\"}\n");
}

static void below_the_level_is_silent(void **state)
{
    (void)state;
    log_configure(LOG_LEVEL_WARN, LOG_FORMAT_LOGFMT, sink);
    log_debug("d");
    log_info("i");
    assert_string_equal(logged(), "");
    log_warn("w");
    log_error("e");
    assert_contains(logged(), "error msg=\"e\"");
}

static void failure_has_its_fields(void **state)
{
    struct error error;

    (void)state;
    log_configure(LOG_LEVEL_DEBUG, LOG_FORMAT_LOGFMT, sink);
    error_set(&error, ERROR_POSTGRES, RETRY_NOW, "deadlock detected");
    memcpy(error.sqlstate, "40P01", 6);
    log_failure(LOG_LEVEL_WARN, "again", &error, LOG_INT("share", 3));
    assert_string_equal(behind_time(logged()),
                        "warn msg=\"again\" error=\"deadlock detected\" sqlstate=40P01 amqp_code=0 "
                        "retry=now share=3\n");
    error_set(&error, ERROR_AMQP, RETRY_RECONNECT, "gone");
    error.amqp_code = 320;
    log_failure(LOG_LEVEL_ERROR, "lost", &error);
    assert_string_equal(behind_time(logged()),
                        "error msg=\"lost\" error=gone sqlstate=- amqp_code=320 retry=reconnect\n");
}

static void long_values_are_cut(void **state)
{
    char *value = malloc(8001);
    const char *line;

    (void)state;
    log_configure(LOG_LEVEL_DEBUG, LOG_FORMAT_LOGFMT, sink);
    memset(value, 'x', 8000);
    value[8000] = 0;
    log_info("m", LOG_STR("v", value), LOG_INT("after", 1));
    line = behind_time(logged());
    assert_int_equal(strspn(strchr(line, 'x'), "x"), 4096);
    assert_contains(line, "x... after=1\n");
    value[4095] = (char)0xc3; /* a character over the border is left out whole */
    value[4096] = (char)0xbc;
    log_info("m", LOG_STR("v", value));
    line = behind_time(logged());
    assert_int_equal(strspn(strchr(line, 'x'), "x"), 4095);
    assert_contains(line, "x...\n");
    value[4096] = 0; /* exactly fits */
    value[4095] = 'x';
    log_info("m", LOG_STR("v", value));
    assert_contains(behind_time(logged()), "x\n");
    free(value);
}

/* Twenty values that grow to 24 kB each do not fit; what is left still parses. */
static void full_lines_are_cut_between_fields(void **state)
{
    struct log_field fields[22] = {{0}};
    char *value = malloc(4097);
    const char *line;
    size_t bytes;
    int i, format;

    (void)state;
    memset(value, '\x01', 4096);
    value[4096] = 0;
    for (i = 0; i < 20; i++)
        fields[i] = LOG_STR("big", value);
    fields[20] = LOG_INT("last", 7);
    for (format = LOG_FORMAT_LOGFMT; format <= LOG_FORMAT_JSON; format++) {
        log_configure(LOG_LEVEL_DEBUG, (enum log_format)format, sink);
        log_write(LOG_LEVEL_INFO, "m", fields);
        line = logged();
        bytes = strlen(line);
        assert_true(bytes > 2 * 24576 && bytes <= 65536);
        if (format == LOG_FORMAT_JSON)
            assert_string_equal(line + bytes - 22, ",\"last\":7,\"cut\":true}\n");
        else
            assert_string_equal(line + bytes - 17, " last=7 cut=true\n");
    }
    free(value);
}

static void a_line_is_written_whole(void **state)
{
    (void)state;
    log_configure(LOG_LEVEL_DEBUG, LOG_FORMAT_LOGFMT, sink);
    errno = 77;
    fault_arm("write", 1, EINTR);
    log_info("interrupted");
    assert_true(fault_disarm());
    assert_int_equal(errno, 77);
    assert_string_equal(behind_time(logged()), "info msg=\"interrupted\"\n");
    fault_arm("write", 1, FAULT_SHORT);
    log_info("in pieces");
    assert_true(fault_disarm());
    assert_string_equal(behind_time(logged()), "info msg=\"in pieces\"\n");
    fault_arm("write", 1, EIO);
    log_info("lost");
    assert_true(fault_disarm());
    assert_string_equal(logged(), "");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(logfmt_line),
        cmocka_unit_test(logfmt_quotes_where_needed),
        cmocka_unit_test(json_line),
        cmocka_unit_test(below_the_level_is_silent),
        cmocka_unit_test(failure_has_its_fields),
        cmocka_unit_test(long_values_are_cut),
        cmocka_unit_test(full_lines_are_cut_between_fields),
        cmocka_unit_test(a_line_is_written_whole),
    };

    return cmocka_run_group_tests_name("runtime log", tests, open_sink, close_sink);
}
