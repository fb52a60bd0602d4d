// SPDX-License-Identifier: GPL-3.0-or-later
/* Where qvdclient's settings come from: client.conf (program-conf.c), environment, options. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "client/program.h"

#define SECRET_MAX 1024

enum { OPT_LONG = 256, OPT_JSON, OPT_PASSWORD_FILE, OPT_CONFIG, OPT_CHECK };

/* A row an option. option: what it sets in the library, -1: handled below; flag: takes no value and
 * sets this one. */
static const struct row {
    int letter; /* above 255: long form only */
    const char *name, *arg;
    int option;
    const char *flag;
    const char *env;
    const char *key; /* of client.conf */
    const char *text;
} rows[] = {
    {'h',               "host",               "HOST",         QVDCLIENT_HOST,            NULL, "QVDHOST",        "client.host.name",          "the server"                           },
    {'p',               "port",               "PORT",         QVDCLIENT_PORT,            NULL, "QVDPORT",        "client.host.port",          "its port (8443)"                      },
    {'u',               "user",               "USER",         QVDCLIENT_USER,            NULL, "QVDLOGIN",       "client.user.name",          "your login"                           },
    {'w',               "password",           "PASSWORD",     QVDCLIENT_PASSWORD,        NULL, "QVDPASSWORD",    "client.user.password",
     "your password; -: from standard input; better asked for"                                                                                                                       },
    {OPT_PASSWORD_FILE, "password-file",      "FILE",         -1,                        NULL, NULL,             NULL,
     "your password is the first line of FILE"                                                                                                                                       },
    {OPT_LONG,          "token",              "TOKEN",        QVDCLIENT_TOKEN,           NULL, "QVDBEARERTOKEN", NULL,
     "a token instead of user and password"                                                                                                                                          },
    {'l',               "list",               NULL,           -1,                        NULL, NULL,             NULL,                        "only list your virtual machines"      },
    {OPT_JSON,          "json",               NULL,           -1,                        NULL, NULL,             NULL,                        "list as JSON"                         },
    {'o',               "first",              NULL,           -1,                        NULL, NULL,             NULL,                        "connect to the first virtual machine" },
    {OPT_LONG,          "vm",                 "ID|NAME",      QVDCLIENT_VM,              NULL, NULL,             NULL,                        "connect to this one"                  },
    {OPT_LONG,          "restart-vm",         NULL,           QVDCLIENT_RESTART,         "1",  NULL,             NULL,
     "stop it first: all programs in it end"                                                                                                                                         },
    {OPT_LONG,          "reconnect",          "SECONDS",      QVDCLIENT_RECONNECT,       NULL, NULL,             NULL,
     "how long a lost connection is made again (120); 0: not"                                                                                                                        },
    {'g',               "geometry",           "WxH",          QVDCLIENT_GEOMETRY,        NULL, NULL,             "client.geometry",
     "size of the desktop (1024x768)"                                                                                                                                                },
    {'f',               "fullscreen",         NULL,           QVDCLIENT_FULLSCREEN,      "1",  NULL,             "client.fullscreen",         "full screen"                          },
    {OPT_LONG,          "link",               "LINK",         QVDCLIENT_LINK,            NULL, NULL,             "client.link",
     "modem, isdn, adsl, wan, lan, local, or a rate as 1m"                                                                                                                           },
    {OPT_LONG,          "keyboard",           "MODEL/LAYOUT", QVDCLIENT_KEYBOARD,        NULL, NULL,             NULL,
     "as pc105/es; otherwise the display's"                                                                                                                                          },
    {OPT_LONG,          "timezone",           "ZONE",         QVDCLIENT_TIMEZONE,        NULL, NULL,             NULL,
     "as Europe/Madrid; otherwise this machine's"                                                                                                                                    },
    {OPT_LONG,          "display",            "DISPLAY",      QVDCLIENT_DISPLAY,         NULL, NULL,             NULL,
     "X display, otherwise $DISPLAY"                                                                                                                                                 },
    {'x',               "nx-options",         "K=V,...",      QVDCLIENT_NX_OPTIONS,      NULL, NULL,             "client.nxagent.extra_args",
     "more NX options for the desktop"                                                                                                                                               },
    {OPT_LONG,          "nxproxy-options",    "K=V,...",      QVDCLIENT_NXPROXY_OPTIONS, NULL, NULL,
     "client.nxproxy.extra_args",                                                                                                             "more NX options for the local nxproxy"},
    {OPT_LONG,          "nxproxy",            "FILE",         QVDCLIENT_NXPROXY,         NULL, NULL,             "command.nxproxy",
     "the program nxproxy"                                                                                                                                                           },
    {OPT_LONG,          "ca",                 "FILE",         QVDCLIENT_CA_FILE,         NULL, "QVD_CA",         NULL,
     "trust the authorities in FILE too"                                                                                                                                             },
    {OPT_LONG,          "accept-fingerprint", "SHA256",       QVDCLIENT_FINGERPRINT,     NULL, NULL,             NULL,
     "the server's certificate has this fingerprint"                                                                                                                                 },
    {'n',               "insecure",           NULL,           QVDCLIENT_INSECURE,        "1",  NULL,             NULL,                        "accept any certificate"               },
    {'c',               "cert",               "FILE",         QVDCLIENT_CERT_FILE,       NULL, NULL,             NULL,
     "show this certificate to the server"                                                                                                                                           },
    {'k',               "key",                "FILE",         QVDCLIENT_KEY_FILE,        NULL, NULL,             NULL,                        "its private key"                      },
    {OPT_LONG,          "crl",                "FILE",         QVDCLIENT_CRL_FILE,        NULL, NULL,             NULL,
     "lists of revoked certificates"                                                                                                                                                 },
    {OPT_CHECK,         "check",              NULL,           -1,                        NULL, NULL,             NULL,
     "test each step on the way to the desktop, and tell what to do"                                                                                                                 },
    {OPT_LONG,          "ssl",                NULL,           QVDCLIENT_USE_SSL,         "1",  NULL,             NULL,                        "with TLS, which is the default"       },
    {OPT_LONG,          "no-ssl",             NULL,           QVDCLIENT_USE_SSL,         "0",  NULL,             "client.use_ssl",
     "without TLS: in a private network only"                                                                                                                                        },
    {OPT_CONFIG,        "config",             "FILE",         -1,                        NULL, NULL,             NULL,
     "settings, over /etc/qvd/client.conf and ~/.qvd/client.conf"                                                                                                                    },
    {'d',               "debug",              NULL,           -1,                        NULL, NULL,             NULL,                        "tell what happens"                    },
    {'v',               "version",            NULL,           -1,                        NULL, NULL,             NULL,                        "show the version"                     },
    {'?',               "help",               NULL,           -1,                        NULL, NULL,             NULL,                        "show this"                            },
};

static void usage(FILE *out)
{
    fprintf(out, "usage: qvdclient [OPTION]... -h HOST -u USER\n"
                 "Connects to your QVD desktop.\n\n");
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        char left[64];
        snprintf(left, sizeof left, "%s%c%s--%s%s%s", rows[i].letter < 256 ? "-" : " ",
                 rows[i].letter < 256 ? rows[i].letter : ' ', rows[i].letter < 256 ? ", " : "  ",
                 rows[i].name, rows[i].arg ? " " : "", rows[i].arg ? rows[i].arg : "");
        fprintf(out, "  %-30s %s\n", left, rows[i].text);
    }
    fprintf(out, "\nSee qvdclient(1) for the environment and the exit status.\n");
}

static must_check int set(struct program *p, const struct row *row, const char *value,
                          const char *where)
{
    int r = qvdclient_set(p->client, row->option, value);

    if (row->option == QVDCLIENT_USE_SSL)
        p->plain = strcmp(value, "0") == 0;
    if (row->option == QVDCLIENT_TOKEN)
        p->token = *value;
    if (r == -EINVAL && row->option == QVDCLIENT_PASSWORD)
        fprintf(stderr, "qvdclient: %s: control characters in the password\n", where);
    else if (r == -EINVAL)
        fprintf(stderr, "qvdclient: %s = %s: %s expected\n", where, value,
                qvdclient_allowed(row->option));
    else if (r < 0)
        fprintf(stderr, "qvdclient: %s\n", strerror(-r));
    return r;
}

/* The first line of a file, or of standard input. */
static must_check int set_password_from(struct program *p, const struct row *row, const char *path)
{
    char line[SECRET_MAX];
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    int r = -EIO;

    if (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\r\n")] = '\0';
        r = set(p, row, line, path);
    } else {
        fprintf(stderr, "qvdclient: %s: no password can be read: %s\n", path,
                !f || ferror(f) ? strerror(errno) : "it is empty");
    }
    explicit_bzero(line, sizeof line);
    if (f && f != stdin)
        fclose(f);
    return r;
}

static const struct row *row_of(int option)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (rows[i].option == option)
            return &rows[i];
    return NULL;
}

/* --- settings and environment --------------------------------------------------------------------
 */

static must_check int apply_conf(struct program *p)
{
    int r = program_conf_apply(p);

    for (size_t i = 0; i < ARRAY_SIZE(rows) && r >= 0; i++)
        if (rows[i].key && conf_is_set(p->conf, rows[i].key))
            r = set(p, &rows[i],
                    rows[i].flag ? conf_bool(p->conf, rows[i].key) ? "1" : "0"
                                 : conf_str(p->conf, rows[i].key),
                    rows[i].key);
    return r;
}

/* Does the administrator's word stand against it? Then the person is told. */
static bool is_forced(const struct program *p, const struct row *row, const char *where)
{
    bool certificate = row->option == QVDCLIENT_INSECURE || row->option == QVDCLIENT_FINGERPRINT;

    if (!program_forced(p, row->key) && !(certificate && program_certificates_forced(p)))
        return false;
    fprintf(stderr, "qvdclient: %s is ignored: your administrator has set %s for all\n", where,
            certificate ? "which certificates may be accepted" : row->key);
    return true;
}

static must_check int apply_env(struct program *p)
{
    int r = 0;

    for (size_t i = 0; i < ARRAY_SIZE(rows) && r >= 0; i++) {
        char *value = rows[i].env ? getenv(rows[i].env) : NULL;
        if (!value || !*value || is_forced(p, &rows[i], rows[i].env))
            continue;
        r = set(p, &rows[i], value, rows[i].env);
        if (rows[i].option == QVDCLIENT_PASSWORD || rows[i].option == QVDCLIENT_TOKEN) {
            explicit_bzero(value, strlen(value));
            unsetenv(rows[i].env);
        }
    }
    return r;
}

/* --- options
 * -------------------------------------------------------------------------------------- */

static must_check int set_password(struct program *p, const struct row *row, char *value)
{
    int r;

    if (strcmp(value, "-") == 0)
        return set_password_from(p, row, "-");
    r = set(p, row, value, "-w");
    explicit_bzero(value, strlen(value)); /* out of the process table */
    fprintf(stderr, "qvdclient: warning: others may have seen the password on the command line; "
                    "leave -w out to be asked, or use -w - or --password-file\n");
    return r;
}

static must_check int take_option(struct program *p, const struct row *row, char *value)
{
    char name[32];

    (void)snprintf(name, sizeof name, "--%s", row->name);
    if (is_forced(p, row, name)) {
        if (row->option == QVDCLIENT_PASSWORD)
            explicit_bzero(value, strlen(value));
        return 0;
    }
    if (row->option == QVDCLIENT_PASSWORD)
        return set_password(p, row, value);
    if (row->option == QVDCLIENT_INSECURE)
        fprintf(stderr, "qvdclient: warning: any certificate is accepted; "
                        "someone in the middle could read your password\n");
    if (row->option >= 0) {
        int r = set(p, row, row->flag ? row->flag : value, name);
        if (r >= 0 && row->option == QVDCLIENT_TOKEN)
            explicit_bzero(value, strlen(value));
        return r;
    }
    if (row->letter == OPT_PASSWORD_FILE)
        return set_password_from(p, row_of(QVDCLIENT_PASSWORD), value);
    p->list = p->list || row->letter == 'l';
    p->json = p->json || row->letter == OPT_JSON;
    p->first = p->first || row->letter == 'o';
    p->debug = p->debug || row->letter == 'd';
    p->check = p->check || row->letter == OPT_CHECK;
    return 0;
}

struct table {
    struct option longs[ARRAY_SIZE(rows) + 1];
    char shorts[ARRAY_SIZE(rows) * 2 + 2];
};

static void make_table(struct table *t)
{
    char *s = t->shorts;

    *t = (struct table){0};
    *s++ = ':';
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        t->longs[i] = (struct option){.name = rows[i].name,
                                      .has_arg = rows[i].arg ? required_argument : no_argument,
                                      .val = 1000 + (int)i};
        if (rows[i].letter < 256 && rows[i].letter != '?') {
            *s++ = rows[i].letter;
            if (rows[i].arg)
                *s++ = ':';
        }
    }
}

static const struct row *row_of_letter(int letter)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (rows[i].letter == letter)
            return &rows[i];
    return NULL;
}

typedef int option_fn(struct program *p, const struct row *row, char *value);

/* fn for each option; -EINVAL when one is wrong. -? and wrong options look the same to getopt. */
static must_check int walk(struct program *p, int argc, char **argv, option_fn *fn)
{
    struct table table;
    int letter, r = 0;

    make_table(&table);
    opterr = 0;
    optind = 1;
    while (r >= 0 && (letter = getopt_long(argc, argv, table.shorts, table.longs, NULL)) != -1) {
        const struct row *row = letter >= 1000 ? &rows[letter - 1000] : row_of_letter(letter);
        if (letter == ':') {
            fprintf(stderr, "qvdclient: %s needs a value\n", argv[optind - 1]);
            return -EINVAL;
        }
        if (letter == '?' && optopt != '?' && optopt != 0) {
            fprintf(stderr, "qvdclient: unknown option -%c; qvdclient --help tells them\n", optopt);
            return -EINVAL;
        }
        if (letter == '?' && optopt == 0) {
            fprintf(stderr, "qvdclient: unknown option %s; qvdclient --help tells them\n",
                    argv[optind - 1]);
            return -EINVAL;
        }
        r = fn(p, row ? row : row_of_letter('?'), optarg);
    }
    if (r >= 0 && optind < argc) {
        fprintf(stderr, "qvdclient: %s is no option; qvdclient --help tells them\n", argv[optind]);
        return -EINVAL;
    }
    return r;
}

static const char *config_file;

/* What must be known before the rest: 1 ends at once, in peace. */
static int look(struct program *p, const struct row *row, char *value)
{
    if (row->letter == '?') {
        usage(stdout);
        exit(QVDCLIENT_OK);
    }
    if (row->letter == 'v') {
        printf("qvdclient %s\n", qvdclient_version());
        exit(QVDCLIENT_OK);
    }
    if (row->letter == OPT_CONFIG)
        config_file = value;
    return 0;
}

int program_options(struct program *p, int argc, char **argv, int *ret_status)
{
    const char *debug = getenv("QVD_DEBUG");
    int r = walk(p, argc, argv, look);

    p->debug = debug && *debug;
    if (r >= 0)
        r = program_conf_load(p, config_file);
    if (r >= 0)
        r = apply_conf(p);
    if (r >= 0)
        r = apply_env(p);
    if (r >= 0)
        r = walk(p, argc, argv, take_option);
    if (r >= 0 && p->plain)
        fprintf(stderr, "qvdclient: warning: without TLS everybody on the way can read the "
                        "password and all that you type\n");
    *ret_status = QVDCLIENT_USAGE;
    return r < 0 ? r : 0;
}
