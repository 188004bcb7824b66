#include "outbox/pg/conninfo.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HOSTS_MAX 32

struct pg_conninfo {
    int count;
    char *keywords[PG_CONNINFO_KEYWORDS_MAX + 1];
    char *values[PG_CONNINFO_KEYWORDS_MAX + 1];
    int turns; /* hosts that stayed silent since one answered */
};

/* Checks ------------------------------------------------------------------------------------- */

static bool is_uri(const char *text)
{
    return strncmp(text, "postgresql://", 13) == 0 || strncmp(text, "postgres://", 11) == 0;
}

/* In a URI everything up to the first '@' or '/' is user and password, so a second '@', or one
 * behind a '/', means that a password holds one of them as it is. */
static bool password_spills(const char *uri)
{
    const char *authority = strstr(uri, "://") + 3;
    size_t authority_bytes = strcspn(authority, "/?");
    size_t path_bytes = strcspn(authority, "?");
    int ats = 0;

    for (size_t i = 0; i < path_bytes; i++) {
        if (authority[i] != '@')
            continue;
        if (i >= authority_bytes || ++ats > 1)
            return true;
    }
    return false;
}

static bool is_port_list(const char *ports)
{
    for (; *ports != '\0'; ports++) {
        if (!isdigit((unsigned char)*ports) && *ports != ',')
            return false;
    }
    return true;
}

/* What libpq says about a string it cannot read, without what it quotes from it. */
static void without_quotes(const char *message, char *out, size_t out_bytes)
{
    bool quoted = false;
    size_t used = 0;

    for (; *message != '\0' && *message != '\n' && used + 4 < out_bytes; message++) {
        if (*message == '"') {
            quoted = !quoted;
            memcpy(out + used, quoted ? "\"..." : "\"", quoted ? 4 : 1);
            used += quoted ? 4 : 1;
        } else if (!quoted) {
            out[used++] = *message;
        }
    }
    out[used] = '\0';
}

static int check_option(const PQconninfoOption *option, struct error *error)
{
    if (strcmp(option->keyword, "port") == 0 && !is_port_list(option->val))
        return error_set(error, ERROR_USAGE, RETRY_NEVER,
                         "PostgreSQL's connection string: the port is not a number (in a URI, "
                         "percent-encode '@', ':' and '/' within a password)");
    return 0;
}

/* Building ----------------------------------------------------------------------------------- */

static int find(const struct pg_conninfo *conninfo, const char *keyword)
{
    for (int i = 0; i < conninfo->count; i++) {
        if (strcmp(conninfo->keywords[i], keyword) == 0)
            return i;
    }
    return -1;
}

static int no_memory(struct error *error)
{
    return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for connection settings");
}

static int set(struct pg_conninfo *conninfo, const char *keyword, const char *value,
               struct error *error)
{
    int i = find(conninfo, keyword);
    char *copy = strdup(value);

    if (copy == NULL)
        return no_memory(error);
    if (i >= 0) {
        free(conninfo->values[i]);
        conninfo->values[i] = copy;
        return 0;
    }
    assert(conninfo->count < PG_CONNINFO_KEYWORDS_MAX);
    char *name = strdup(keyword);
    if (name == NULL) {
        free(copy);
        return no_memory(error);
    }
    conninfo->keywords[conninfo->count] = name;
    conninfo->values[conninfo->count++] = copy;
    return 0;
}

int pg_conninfo_default(struct pg_conninfo *conninfo, const char *keyword, const char *value,
                        struct error *error)
{
    if (find(conninfo, keyword) >= 0)
        return 0;
    PQconninfoOption *defaults = PQconndefaults(); /* reads PG* variables and the service file */
    if (defaults == NULL)
        return set(conninfo, keyword, value, error);
    bool given = false;
    for (const PQconninfoOption *option = defaults; option->keyword != NULL; option++) {
        /* A variable, or a service file: what is compiled in does not count. */
        if (strcmp(option->keyword, keyword) == 0)
            given = option->val != NULL &&
                    (option->compiled == NULL || strcmp(option->val, option->compiled) != 0);
    }
    PQconninfoFree(defaults);
    return given ? 0 : set(conninfo, keyword, value, error);
}

static int take_options(struct pg_conninfo *conninfo, const PQconninfoOption *options,
                        struct error *error)
{
    for (const PQconninfoOption *option = options; option->keyword != NULL; option++) {
        if (option->val == NULL)
            continue;
        int code = check_option(option, error);
        if (code == 0)
            code = set(conninfo, option->keyword, option->val, error);
        if (code < 0)
            return code;
    }
    return 0;
}

/* Cuts "a,b,c" into `ret_items`, which point into `list`. An empty list is one empty item. */
static int split(char *list, char *ret_items[HOSTS_MAX])
{
    int count = 0;
    for (char *rest = list; rest != NULL && count < HOSTS_MAX;)
        ret_items[count++] = strsep(&rest, ",");
    return count;
}

static const char *option_value(const PQconninfoOption *options, const char *keyword)
{
    for (; options->keyword != NULL; options++) {
        if (strcmp(options->keyword, keyword) == 0)
            return options->val != NULL ? options->val : "";
    }
    return "";
}

/* TLS ---------------------------------------------------------------------------------------- */

#define SYSTEM_CAS "/etc/ssl/certs/ca-certificates.crt"

/* A socket's folder, or the machine itself: nobody is in between. */
static bool is_local(const char *host)
{
    struct in_addr address;

    return host[0] == '\0' || host[0] == '/' || host[0] == '@' || strcmp(host, "localhost") == 0 ||
           strcmp(host, "::1") == 0 ||
           (inet_pton(AF_INET, host, &address) == 1 && ntohl(address.s_addr) >> 24 == 127);
}

static bool are_local(const char *hosts)
{
    char *items[HOSTS_MAX];
    char *copy = strdup(hosts);
    bool local = copy != NULL;

    int count = copy != NULL ? split(copy, items) : 0;
    for (int i = 0; i < count; i++)
        local = local && is_local(items[i]);
    free(copy);
    return local;
}

/* What libpq would take for the keyword: the user's own, a PG* variable's, or the service file's.
 */
static int effective(const struct pg_conninfo *conninfo, const char *keyword, char *out,
                     size_t capacity)
{
    int i = find(conninfo, keyword);
    if (i >= 0)
        return snprintf(out, capacity, "%s", conninfo->values[i]);
    PQconninfoOption *defaults = PQconndefaults();
    int bytes =
        snprintf(out, capacity, "%s", defaults != NULL ? option_value(defaults, keyword) : "");
    PQconninfoFree(defaults);
    return bytes;
}

/* libpq's own default encrypts when it can and trusts whoever answers. Beyond this machine the
 * server's certificate and name are checked unless the user says otherwise with sslmode; the CAs
 * are those of ~/.postgresql/root.crt where there is one, else the system's. */
static int add_verification(struct pg_conninfo *conninfo, struct error *error)
{
    char hosts[2048], addresses[2048], own_cas[1024];
    const char *home = getenv("HOME");

    (void)effective(conninfo, "host", hosts, sizeof(hosts));
    (void)effective(conninfo, "hostaddr", addresses, sizeof(addresses));
    if (getenv("PGSSLMODE") != NULL || are_local(addresses[0] != '\0' ? addresses : hosts))
        return 0;
    int code = pg_conninfo_default(conninfo, "sslmode", "verify-full", error);
    (void)snprintf(own_cas, sizeof(own_cas), "%s/.postgresql/root.crt", home != NULL ? home : "");
    if (code == 0 && access(own_cas, R_OK) != 0 && access(SYSTEM_CAS, R_OK) == 0)
        code = pg_conninfo_default(conninfo, "sslrootcert", SYSTEM_CAS, error);
    return code;
}

static int add_ours(struct pg_conninfo *conninfo, const char *fallback_name, bool primary_only,
                    struct error *error)
{
    static const char *const defaults[][2] = {
        {"keepalives_idle", "10"},
        {"keepalives_interval", "5"},
        {"keepalives_count", "3"},
        {"tcp_user_timeout", "20000"},
        /* libpq holds decrypted bytes back with GSS without a way to ask for them. */
        {"gssencmode", "disable"},
    };

    for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++) {
        int code = pg_conninfo_default(conninfo, defaults[i][0], defaults[i][1], error);
        if (code < 0)
            return code;
    }
    int verification = add_verification(conninfo, error);
    if (verification < 0)
        return verification;
    if (fallback_name != NULL) {
        int code = set(conninfo, "fallback_application_name", fallback_name, error);
        if (code < 0)
            return code;
    }
    if (primary_only) {
        int i = find(conninfo, "target_session_attrs");
        if (i < 0 || strcmp(conninfo->values[i], "read-write") != 0) {
            int code = set(conninfo, "target_session_attrs", "primary", error);
            if (code < 0)
                return code;
        }
    }
    return set(conninfo, "client_encoding", "UTF8", error);
}

int pg_conninfo_parse(struct pg_conninfo **ret_conninfo, const char *text,
                      const char *fallback_name, bool primary_only, struct error *error)
{
    char *why = NULL;

    if (text == NULL)
        text = "";
    if (is_uri(text) && password_spills(text))
        return error_set(error, ERROR_USAGE, RETRY_NEVER,
                         "PostgreSQL's connection URI holds more than one '@', or one after a '/': "
                         "percent-encode '@', ':' and '/' within a password");
    PQconninfoOption *options = PQconninfoParse(text, &why);
    if (options == NULL) {
        char message[256];
        without_quotes(why != NULL ? why : "no memory", message, sizeof(message));
        PQfreemem(why);
        return error_set(error, ERROR_USAGE, RETRY_NEVER,
                         "PostgreSQL's connection string cannot be read: %s", message);
    }
    struct pg_conninfo *conninfo = calloc(1, sizeof(*conninfo));
    if (conninfo == NULL) {
        PQconninfoFree(options);
        return no_memory(error);
    }
    int code = take_options(conninfo, options, error);
    PQconninfoFree(options);
    if (code == 0)
        code = add_ours(conninfo, fallback_name, primary_only, error);
    if (code < 0) {
        pg_conninfo_free(conninfo);
        return code;
    }
    *ret_conninfo = conninfo;
    return 0;
}

void pg_conninfo_free(struct pg_conninfo *conninfo)
{
    if (conninfo == NULL)
        return;
    for (int i = 0; i < conninfo->count; i++) {
        explicit_bzero(conninfo->values[i], strlen(conninfo->values[i])); /* it may be a password */
        free(conninfo->keywords[i]);
        free(conninfo->values[i]);
    }
    free(conninfo);
}

void pg_conninfo_keywords(const struct pg_conninfo *conninfo, const char *const **ret_keywords,
                          const char *const **ret_values)
{
    *ret_keywords = (const char *const *)conninfo->keywords;
    *ret_values = (const char *const *)conninfo->values;
}

/* Several hosts ------------------------------------------------------------------------------ */

/* "a,b,c" with `first` = 1 gives "b,c,a". A list of one stands for all hosts and stays. */
static char *turned(const char *list, int first)
{
    char *items[HOSTS_MAX];
    char *copy = strdup(list);
    char *out = calloc(1, strlen(list) + 1);

    if (copy == NULL || out == NULL) {
        free(copy);
        free(out);
        return NULL;
    }
    int count = split(copy, items);
    char *end = out;
    for (int i = 0; i < count; i++) {
        if (i > 0)
            *end++ = ',';
        end = stpcpy(end, items[(first + i) % count]);
    }
    free(copy);
    return out;
}

static int item_count(const char *list)
{
    int count = 1;
    for (; *list != '\0'; list++)
        count += *list == ',';
    return count;
}

/* Which of the hosts in `options` the connection was trying: the first with that name and port. */
static int host_index(const PQconninfoOption *options, const char *list, PGconn *connection)
{
    char *names[HOSTS_MAX], *ports[HOSTS_MAX];
    char *name_list = strdup(list);
    char *port_list = strdup(option_value(options, "port"));
    const char *name = PQhost(connection);
    const char *port = PQport(connection);
    int found = 0;

    if (name_list != NULL && port_list != NULL) {
        int name_count = split(name_list, names);
        int port_count = split(port_list, ports);
        for (int i = name_count - 1; i >= 0; i--) {
            const char *its_port = ports[port_count == 1 ? 0 : i % port_count];
            if (name != NULL && strcmp(names[i], name) == 0 &&
                (port == NULL || its_port[0] == '\0' || strcmp(its_port, port) == 0))
                found = i;
        }
    }
    free(name_list);
    free(port_list);
    return found;
}

static bool turn_hosts(struct pg_conninfo *conninfo, const PQconninfoOption *options,
                       PGconn *connection)
{
    static const char *const lists[] = {"host", "hostaddr", "port"};
    const char *hosts = option_value(options, "host");

    if (item_count(hosts) < item_count(option_value(options, "hostaddr")))
        hosts = option_value(options, "hostaddr");
    int count = item_count(hosts);
    if (count < 2 || count > HOSTS_MAX)
        return false;
    int first = (host_index(options, hosts, connection) + 1) % count;
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        const char *list = option_value(options, lists[i]);
        if (item_count(list) < 2)
            continue;
        char *changed = turned(list, first);
        bool failed = changed == NULL || set(conninfo, lists[i], changed, NULL) < 0;
        free(changed);
        if (failed)
            return false;
    }
    return ++conninfo->turns < count;
}

bool pg_conninfo_next_host(struct pg_conninfo *conninfo, PGconn *connection)
{
    /* The options in force, with those from variables and service files. */
    PQconninfoOption *options = PQconninfo(connection);
    if (options == NULL)
        return false;
    bool more = turn_hosts(conninfo, options, connection);
    PQconninfoFree(options);
    if (!more)
        conninfo->turns = 0;
    return more;
}

void pg_conninfo_answered(struct pg_conninfo *conninfo)
{
    conninfo->turns = 0;
}
