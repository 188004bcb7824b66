#include "outbox/runtime/utf8.h"

#include <assert.h>
#include <stdbool.h>

/* Table 3-7 of the Unicode standard, by rows: lead bytes, the second byte's range, the length. */
static const struct utf8_row {
    uint8_t lead_first, lead_last;
    uint8_t second_first, second_last;
    uint8_t bytes;
    uint8_t lead_bits;
} utf8_rows[] = {
    {0xc2, 0xdf, 0x80, 0xbf, 2, 0x1f}, {0xe0, 0xe0, 0xa0, 0xbf, 3, 0x0f},
    {0xe1, 0xec, 0x80, 0xbf, 3, 0x0f}, {0xed, 0xed, 0x80, 0x9f, 3, 0x0f},
    {0xee, 0xef, 0x80, 0xbf, 3, 0x0f}, {0xf0, 0xf0, 0x90, 0xbf, 4, 0x07},
    {0xf1, 0xf3, 0x80, 0xbf, 4, 0x07}, {0xf4, 0xf4, 0x80, 0x8f, 4, 0x07},
};

size_t utf8_decode(const char *text, size_t bytes, uint32_t *ret_character)
{
    uint8_t lead;
    size_t row, i;

    if (!bytes)
        return 0;
    lead = (uint8_t)text[0];
    if (lead < 0x80) {
        *ret_character = lead;
        return 1;
    }
    for (row = 0; row < sizeof(utf8_rows) / sizeof(utf8_rows[0]); row++) {
        const struct utf8_row *r = &utf8_rows[row];
        uint32_t character = lead & r->lead_bits;
        if (lead < r->lead_first || lead > r->lead_last)
            continue;
        if (bytes < r->bytes || (uint8_t)text[1] < r->second_first ||
            (uint8_t)text[1] > r->second_last)
            return 0;
        for (i = 1; i < r->bytes; i++) {
            uint8_t byte = (uint8_t)text[i];
            if ((byte & 0xc0) != 0x80)
                return 0;
            character = character << 6 | (byte & 0x3f);
        }
        *ret_character = character;
        return r->bytes;
    }
    return 0;
}

size_t utf8_encode(uint32_t character, char out[UTF8_BYTES_MAX])
{
    assert(character <= 0x10ffff && (character < 0xd800 || character > 0xdfff));
    if (character < 0x80) {
        out[0] = (char)character;
        return 1;
    }
    if (character < 0x800) {
        out[0] = (char)(0xc0 | character >> 6);
        out[1] = (char)(0x80 | (character & 0x3f));
        return 2;
    }
    if (character < 0x10000) {
        out[0] = (char)(0xe0 | character >> 12);
        out[1] = (char)(0x80 | (character >> 6 & 0x3f));
        out[2] = (char)(0x80 | (character & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | character >> 18);
    out[1] = (char)(0x80 | (character >> 12 & 0x3f));
    out[2] = (char)(0x80 | (character >> 6 & 0x3f));
    out[3] = (char)(0x80 | (character & 0x3f));
    return 4;
}

bool utf8_is_control(uint32_t character)
{
    return character < 0x20 || (character >= 0x7f && character < 0xa0);
}
