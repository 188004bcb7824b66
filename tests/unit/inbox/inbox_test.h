/* inbox_test.h: what every test of this folder includes. */
#ifndef SAGAPOST_TESTS_INBOX_TEST_H
#define SAGAPOST_TESTS_INBOX_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
