#include "outbox/relay/publishing/envelope.h"
#include "outbox/runtime/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static struct broker_text text_of(const char *text)
{
    return (struct broker_text){text, strlen(text)};
}

void envelope_format_time(struct envelope *envelope, int64_t unix_us)
{
    int64_t second = unix_us / US_PER_S, rest_us = unix_us % US_PER_S;
    char *digit;

    if (rest_us < 0) {
        rest_us += US_PER_S;
        second--;
    }
    if (second != envelope->time_s || !envelope->time[0]) {
        time_t time = (time_t)second;
        struct tm parts;

        if (!gmtime_r(&time, &parts) || strftime(envelope->time, sizeof(envelope->time),
                                                 "%Y-%m-%dT%H:%M:%S.000000Z", &parts) == 0)
            snprintf(envelope->time, sizeof(envelope->time), "%s", "1970-01-01T00:00:00.000000Z");
        envelope->time_s = second;
    }
    /* Most rows of a batch are of the same second: only the microseconds are written anew. */
    digit = envelope->time + strlen(envelope->time) - 1;
    for (int i = 0; i < 6; i++, rest_us /= 10)
        *--digit = (char)('0' + rest_us % 10);
}

static int add_event_header(struct envelope *envelope, int count, const char *name,
                            struct broker_text value)
{
    if (!value.text || (envelope->headers.count && headers_has(&envelope->headers, name)))
        return count;
    envelope->list[count] = (struct broker_header){
        .name = text_of(name),
        .kind = BROKER_TEXT,
        .text = value,
    };
    return count + 1;
}

static int add_event_headers(struct envelope *envelope, int count, struct row row)
{
    count = add_event_header(envelope, count, "cloudEvents_specversion", text_of("1.0"));
    count = add_event_header(envelope, count, "cloudEvents_id",
                             (struct broker_text){envelope->message_id, UUID_TEXT_BYTES - 1});
    count = add_event_header(envelope, count, "cloudEvents_source", text_of(envelope->source));
    count = add_event_header(envelope, count, "cloudEvents_type", row_text(row, ROW_TYPE));
    count = add_event_header(envelope, count, "cloudEvents_subject", row_text(row, ROW_KEY));
    return add_event_header(envelope, count, "cloudEvents_time", text_of(envelope->time));
}

static void set_body(struct broker_message *message, struct row row)
{
    struct broker_text body = row_text(row, ROW_PAYLOAD);
    bool json = body.text != NULL;

    if (!json)
        body = row_text(row, ROW_PAYLOAD_BYTES);
    message->body = body.text;
    message->body_bytes = body.bytes;
    message->content_type = row_text(row, ROW_CONTENT_TYPE);
    if (!message->content_type.text)
        message->content_type = text_of(json ? "application/json" : "application/octet-stream");
}

int envelope_make(struct envelope *envelope, struct row row, const struct route *route,
                  struct broker_message *ret_message, struct error *error)
{
    struct uuid message_id = pg_uuid(row.rows, row.row, ROW_MESSAGE_ID);
    int64_t created_us = pg_time_us(row.rows, row.row, ROW_CREATED_AT);
    struct broker_text headers = row_text(row, ROW_HEADERS);
    int count = 0;

    envelope->headers.count = 0;
    if (headers.text) {
        int failed = headers_read(&envelope->headers, headers.text, headers.bytes, error);

        if (failed < 0)
            return failed;
        count = envelope->headers.count;
        memcpy(envelope->list, envelope->headers.list, (size_t)count * sizeof(envelope->list[0]));
    }
    uuid_format(&message_id, envelope->message_id);
    if (envelope->cloud_events) {
        envelope_format_time(envelope, created_us);
        count = add_event_headers(envelope, count, row);
    }
    *ret_message = (struct broker_message){
        .exchange = route->exchange,
        .routing_key = route->routing_key,
        .mandatory = pg_bool(row.rows, row.row, ROW_MANDATORY),
        .persistent = true,
        .message_id = {envelope->message_id, UUID_TEXT_BYTES - 1},
        .type = row_text(row, ROW_TYPE),
        .correlation_id = row_text(row, ROW_CORRELATION_ID),
        .reply_to = row_text(row, ROW_REPLY_TO),
        .app_id = envelope->app_id[0] ? text_of(envelope->app_id) : (struct broker_text){0},
        .timestamp_s = created_us > 0 ? created_us / US_PER_S : 0,
        .headers = envelope->list,
        .header_count = count,
    };
    set_body(ret_message, row);
    return 0;
}

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
    return hash ^ (hash >> 32);
}

/* Eight bytes at a step: every message is hashed, and a byte at a step, as key_hash goes, took four
 * times as long. The length is in it, so that texts beside each other cannot trade bytes. */
static uint64_t mix_text(uint64_t hash, struct broker_text text)
{
    uint64_t word;
    size_t at;

    hash = mix(hash, text.bytes);
    for (at = 0; at + sizeof(word) <= text.bytes; at += sizeof(word)) {
        memcpy(&word, text.text + at, sizeof(word));
        hash = mix(hash, word);
    }
    for (word = 0; at < text.bytes; at++)
        word = word << 8 | (unsigned char)text.text[at];
    return mix(hash, word);
}

uint64_t envelope_fingerprint(struct broker_text message_id, struct broker_text exchange,
                              struct broker_text routing_key)
{
    return mix_text(mix_text(mix_text(0, message_id), exchange), routing_key);
}
