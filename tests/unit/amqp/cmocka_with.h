/* cmocka_with.h: cmocka.h and the four headers it asks for before it. */
#ifndef SAGAPOST_TESTS_AMQP_CMOCKA_WITH_H
#define SAGAPOST_TESTS_AMQP_CMOCKA_WITH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
