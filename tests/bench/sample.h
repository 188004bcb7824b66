/* sample.h: the message that all publishers of the benches send.
 *
 * It has the properties and headers that outbox-relay gives a row of load.py, each of the same
 * length, so that a message is the same number of bytes on every way: routing key, type and
 * cloudEvents_type are the queue's name, the key is "k500" (the rows' keys are k0 to k999), and the
 * rest is what the relay writes by default. */
#ifndef SAGAPOST_BENCH_SAMPLE_H
#define SAGAPOST_BENCH_SAMPLE_H

#define SAMPLE_MESSAGE_ID   "0190a5b0-7c1e-7000-8000-000000000000"
#define SAMPLE_CONTENT_TYPE "application/json"
#define SAMPLE_APP_ID       "sagapost"
#define SAMPLE_TIMESTAMP_S  1700000000
#define SAMPLE_HEADERS      6
#define SAMPLE_TYPE_HEADER  3 /* its value is the type */

static const struct sample_header {
    const char *name, *value;
} sample_headers[SAMPLE_HEADERS] = {
    {"cloudEvents_specversion", "1.0"},  {"cloudEvents_id", SAMPLE_MESSAGE_ID},
    {"cloudEvents_source", "/sagapost"}, {"cloudEvents_type", 0},
    {"cloudEvents_subject", "k500"},     {"cloudEvents_time", "2023-11-14T22:13:20.000000Z"},
};

#endif
