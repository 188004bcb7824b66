/* The pure half of `sagapost migrate`: which migrations are to be applied. */
#include "saga/cli/migrate.h"
#include <string.h>

static const struct {
    const char *name;
    const char *stands_on;
} parts_known[] = {
    {"base", NULL},          {"outbox", "base"}, {"inbox", "base"}, {"participant", "outbox"},
    {"saga", "participant"},
};

#define PART_COUNT ((int)(sizeof parts_known / sizeof parts_known[0]))

static int part_find(const char *name, size_t bytes)
{
    for (int i = 0; i < PART_COUNT; i++)
        if (strlen(parts_known[i].name) == bytes && memcmp(parts_known[i].name, name, bytes) == 0)
            return i;
    return -1;
}

/* Marks the part and what it stands on. */
static void part_want(bool *wanted, int part)
{
    while (part >= 0) {
        wanted[part] = true;
        const char *below = parts_known[part].stands_on;
        part = below != NULL ? part_find(below, strlen(below)) : -1;
    }
}

static int parts_parse(const char *parts, bool *ret_wanted, struct error *error)
{
    for (const char *word = parts; *word != '\0';) {
        size_t bytes = strcspn(word, ",");
        int part = part_find(word, bytes);
        if (part < 0)
            return error_set(error, ERROR_USAGE, RETRY_NEVER,
                             "parts: \"%.*s\" is none of outbox, inbox, participant, saga",
                             (int)bytes, word);
        part_want(ret_wanted, part);
        word += bytes;
        if (*word == ',')
            word++;
    }
    if (!ret_wanted[part_find("base", 4)])
        return error_set(error, ERROR_USAGE, RETRY_NEVER,
                         "parts: empty; allowed: outbox, inbox, participant, saga");
    return 0;
}

static const struct applied_migration *applied_find(const struct applied_migration *applied,
                                                    int count, int number)
{
    for (int i = 0; i < count; i++)
        if (applied[i].number == number)
            return &applied[i];
    return NULL;
}

static const struct migration *migration_find(int number)
{
    for (int i = 0; i < MIGRATION_NEWEST; i++)
        if (migrations[i].number == number)
            return &migrations[i];
    return NULL;
}

static int applied_check(const struct applied_migration *applied, int count, struct error *error)
{
    for (int i = 0; i < count; i++) {
        const struct migration *known = migration_find(applied[i].number);
        if (known == NULL)
            return error_set(
                error, ERROR_REFUSED, RETRY_NEVER,
                "the database has migration %d (%s), this program knows them up to %d: "
                "use the newer sagapost that wrote it",
                applied[i].number, applied[i].name, MIGRATION_NEWEST);
        if (strcmp(known->sha256, applied[i].checksum) != 0)
            return error_set(
                error, ERROR_REFUSED, RETRY_NEVER,
                "migration %d (%s) was applied with checksum %.12s, this program carries %.12s: "
                "they are not the same; nothing was changed",
                known->number, known->name, applied[i].checksum, known->sha256);
    }
    return 0;
}

int migrate_decide(const char *parts, int to, const struct applied_migration *applied,
                   int applied_count, struct migrate_plan *ret_plan, struct error *error)
{
    bool wanted[PART_COUNT] = {false};
    int rc = parts_parse(parts, wanted, error);
    if (rc < 0)
        return rc;
    if (to < 0 || to > MIGRATION_NEWEST)
        return error_set(error, ERROR_USAGE, RETRY_NEVER, "to: %d; allowed: 1 to %d", to,
                         MIGRATION_NEWEST);
    rc = applied_check(applied, applied_count, error);
    if (rc < 0)
        return rc;
    struct migrate_plan plan = {0};
    for (int i = 0; i < MIGRATION_NEWEST && plan.count < MIGRATE_MAX; i++) {
        const struct migration *step = &migrations[i];
        int part = part_find(step->part, strlen(step->part));
        if (part >= 0 && wanted[part] && (to == 0 || step->number <= to) &&
            applied_find(applied, applied_count, step->number) == NULL)
            plan.steps[plan.count++] = step;
    }
    *ret_plan = plan;
    return 0;
}
