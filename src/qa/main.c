// SPDX-License-Identifier: GPL-3.0-or-later
/* qa: administration of a QVD farm by its REST API. Options, settings and help; the verbs have
 * files of their own. */
#include <getopt.h>
#include <string.h>
#include <strings.h>

#include "base/fs.h"
#include "base/str.h"
#include "conf/conf.h"
#include "config.h"
#include "qa/qa.h"

struct options {
    const char *url, *login, *tenant, *password_file, *ca, *format, *config;
    char *password;
    bool insecure, help;
};

static const char usage_text[] =
    "usage: qa [OPTION ...] OBJECT VERB [OPTION ...] [key=value ...]\n"
    "\n"
    "  -f, --filter F        which objects: key=value, \",\" and, \";\" or, \"!\" not, * and ?\n"
    "      --fields A,B      what list and show tell\n"
    "      --sort A,-B       order of list and show\n"
    "      --format F        TABLE, CSV or JSON\n"
    "  -q, --quiet           no headings, no messages\n"
    "      --yes, --force    do not ask\n"
    "      --wait            start and stop wait until it is so\n"
    "  -u, --url URL         where the API is (QA_URL, qa.url)\n"
    "  -l, --login NAME      administrator (QA_LOGIN, qa.login)\n"
    "  -t, --tenant NAME     his tenant (QA_TENANT, qa.tenant)\n"
    "  -p, --password P      his password; - takes a line of stdin (QA_PASSWORD, qa.password;\n"
    "                        asked for on a terminal when none is given)\n"
    "      --password-file F file that holds it\n"
    "      --ca FILE         authority of the server's certificate (QA_CA, qa.ca)\n"
    "      --insecure        accept any certificate\n"
    "      --config FILE     settings instead of /etc/qvd/qa.conf and ~/.qvd/qa.conf (QA_CONFIG)\n"
    "  -h, --help            help; of an object: qa vm --help\n"
    "      --version\n";

static bool has_word(const char *words, const char *word)
{
    size_t n = strlen(word);

    for (const char *at = words; *at;) {
        size_t len = strcspn(at, " ");
        if (len == n && memcmp(at, word, n) == 0)
            return true;
        at += len + strspn(at + len, " ");
    }
    return false;
}

static void print_verbs(const struct qa_object *o, const char *verb, FILE *out)
{
    for (const struct qa_verb *v = qa_verbs; v->name; v++)
        if (has_word(v->objects, o->name) && (!verb || strcmp(verb, v->name) == 0))
            fprintf(out, "   qa %s %s %s\n      %s\n", o->name, v->name, v->args, v->text);
    if (!verb || strcmp(verb, "add") == 0)
        fprintf(out, "   Example: %s\n", o->example);
}

static void print_help(const struct qa_object *o, const char *verb, FILE *out)
{
    if (o) {
        print_verbs(o, verb, out);
        return;
    }
    fputs(usage_text, out);
    fputs("\nObjects and verbs:\n", out);
    for (o = qa_objects; o->name; o++) {
        fprintf(out, "   %-7s", o->name);
        for (const struct qa_verb *v = qa_verbs; v->name; v++)
            if (has_word(v->objects, o->name))
                fprintf(out, " %s", v->name);
        fputc('\n', out);
    }
    fputs("\nExit status: 0 done, 1 some failed, 2 wrong usage, 3 not found, 4 refused, 5 the"
          " server cannot be reached.\n",
          out);
}

enum {
    OPT_FIELDS = 256,
    OPT_SORT,
    OPT_FORMAT,
    OPT_YES,
    OPT_WAIT,
    OPT_PASSWORD_FILE,
    OPT_CA,
    OPT_INSECURE,
    OPT_CONFIG,
    OPT_VERSION
};

/* clang-format off */
static const struct option long_options[] = {
    {"filter",        required_argument, NULL, 'f'},
    {"fields",        required_argument, NULL, OPT_FIELDS},
    {"sort",          required_argument, NULL, OPT_SORT},
    {"format",        required_argument, NULL, OPT_FORMAT},
    {"quiet",         no_argument,       NULL, 'q'},
    {"yes",           no_argument,       NULL, OPT_YES},
    {"force",         no_argument,       NULL, OPT_YES},
    {"wait",          no_argument,       NULL, OPT_WAIT},
    {"url",           required_argument, NULL, 'u'},
    {"login",         required_argument, NULL, 'l'},
    {"tenant",        required_argument, NULL, 't'},
    {"password",      required_argument, NULL, 'p'},
    {"password-file", required_argument, NULL, OPT_PASSWORD_FILE},
    {"ca",            required_argument, NULL, OPT_CA},
    {"insecure",      no_argument,       NULL, OPT_INSECURE},
    {"config",        required_argument, NULL, OPT_CONFIG},
    {"help",          no_argument,       NULL, 'h'},
    {"version",       no_argument,       NULL, OPT_VERSION},
    {0},
};
/* clang-format on */

/* Others must not read it in the list of processes. */
static void take_password(struct options *o, char *arg)
{
    free(o->password);
    o->password = strdup(arg);
    if (strcmp(arg, "-") != 0)
        explicit_bzero(arg, strlen(arg));
}

static int parse(int argc, char **argv, struct options *o, struct qa *qa)
{
    const struct {
        int c;
        const char **text;
        bool *flag;
    } sinks[] = {
        {'f',               &qa->filter,       NULL        },
        {'F',               &qa->filter,       NULL        },
        {OPT_FIELDS,        &qa->fields,       NULL        },
        {OPT_SORT,          &qa->sort,         NULL        },
        {OPT_FORMAT,        &o->format,        NULL        },
        {'u',               &o->url,           NULL        },
        {'l',               &o->login,         NULL        },
        {'t',               &o->tenant,        NULL        },
        {OPT_PASSWORD_FILE, &o->password_file, NULL        },
        {OPT_CA,            &o->ca,            NULL        },
        {OPT_CONFIG,        &o->config,        NULL        },
        {'q',               NULL,              &qa->quiet  },
        {OPT_YES,           NULL,              &qa->yes    },
        {OPT_WAIT,          NULL,              &qa->wait   },
        {OPT_INSECURE,      NULL,              &o->insecure},
        {'h',               NULL,              &o->help    },
    };
    int c;

    while ((c = getopt_long(argc, argv, "f:F:qu:l:t:p:h", long_options, NULL)) != -1) {
        if (c == '?')
            return QA_USAGE;
        if (c == 'p')
            take_password(o, optarg);
        if (c == OPT_VERSION) {
            puts("qa " QVD_VERSION);
            exit(QA_OK);
        }
        for (size_t i = 0; i < ARRAY_SIZE(sinks); i++) {
            if (sinks[i].c != c)
                continue;
            if (sinks[i].text)
                *sinks[i].text = optarg;
            else
                *sinks[i].flag = true;
        }
    }
    return QA_OK;
}

static void warn(void *arg, const char *text)
{
    fprintf(stderr, "qa: %s\n", text);
}

/* Files, then environment, then options. */
static int load_settings(const struct options *o, struct conf **ret_conf)
{
    const struct {
        const char *key, *option, *variable;
    } rows[] = {
        {"qa.url",      o->url,                   "QA_URL"     },
        {"qa.login",    o->login,                 "QA_LOGIN"   },
        {"qa.tenant",   o->tenant,                "QA_TENANT"  },
        {"qa.ca",       o->ca,                    "QA_CA"      },
        {"qa.password", NULL,                     "QA_PASSWORD"},
        {"qa.format",   o->format,                "QA_FORMAT"  },
        {"qa.insecure", o->insecure ? "1" : NULL, "QA_INSECURE"},
    };
    const char *home = getenv("HOME"), *named = o->config ? o->config : getenv("QA_CONFIG");
    _cleanup_(free_p) char *own = str_printf("%s/.qvd/qa.conf", home ? home : "");
    _cleanup_(conf_free_p) struct conf *c = conf_new(warn, NULL);
    struct qvd_error err;
    int r = c && own ? 0 : -ENOMEM;

    const char *const files[] = {named ? named : QVD_SYSCONFDIR "/qa.conf", named ? NULL : own};
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(files); i++) {
        r = files[i] ? conf_load(c, files[i], &err) : 0;
        if ((r == -ENOENT || r == -EACCES) && !named)
            r = 0;
    }
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(rows); i++) {
        const char *value = rows[i].option ? rows[i].option : getenv(rows[i].variable);
        r = value ? conf_override(c, rows[i].key, value, &err) : 0;
    }
    if (r < 0) {
        fprintf(stderr, "Error: %s\n", c && own ? err.text : "out of memory");
        return QA_USAGE;
    }
    *ret_conf = TAKE_PTR(c);
    return QA_OK;
}

/* A new string; NULL when there is none. */
static char *find_password(struct options *o, const struct conf *c)
{
    const char *set = conf_str(c, "qa.password");
    char *text = NULL;

    if (o->password && strcmp(o->password, "-") != 0)
        return TAKE_PTR(o->password);
    if (o->password)
        return qa_read_secret("Password: ", false);
    if (o->password_file) {
        int r = fs_read(o->password_file, 4096, &text, NULL);
        if (r < 0)
            fprintf(stderr, "Error: %s: %s\n", o->password_file, strerror(-r));
        else
            text[strcspn(text, "\r\n")] = '\0';
        return text;
    }
    return *set ? strdup(set) : qa_read_secret("Password: ", true);
}

static int connect_and_run(struct qa *qa, struct options *o, const struct qa_verb *verb)
{
    struct conf *c = NULL;
    struct qvd_error err;
    int status = load_settings(o, &c);

    if (status != QA_OK)
        return status;
    const char *format = conf_str(c, "qa.format");
    qa->format = strcasecmp(format, "CSV") == 0    ? QA_CSV
                 : strcasecmp(format, "JSON") == 0 ? QA_JSON
                                                   : QA_TABLE;
    _cleanup_(free_p) char *password = find_password(o, c);
    if (!password) {
        fprintf(stderr, "Error: no password: QA_PASSWORD, --password-file, qa.password or a"
                        " terminal\n");
        conf_free(c);
        return QA_USAGE;
    }
    struct session_settings settings = {.url = conf_str(c, "qa.url"),
                                        .login = conf_str(c, "qa.login"),
                                        .tenant = conf_str(c, "qa.tenant"),
                                        .password = password,
                                        .ca = conf_str(c, "qa.ca"),
                                        .insecure = conf_bool(c, "qa.insecure")};
    int r = session_open(&settings, &qa->session, &err);
    status = r == 0 ? verb->fn(qa) : qa_fail(r, &err);
    qa->session = session_close(qa->session);
    conf_free(c);
    return status;
}

static const struct qa_object *find_object(const char *name)
{
    for (const struct qa_object *o = qa_objects; o->name; o++)
        if (strcmp(o->name, name) == 0)
            return o;
    return NULL;
}

static const struct qa_verb *find_verb(const struct qa_object *object, const char *name)
{
    for (const struct qa_verb *v = qa_verbs; v->name; v++)
        if (strcmp(v->name, name) == 0 && has_word(v->objects, object->name))
            return v;
    return NULL;
}

/* The words behind the verb; one with a password is copied and wiped, as others can read the list
 * of processes. The copy lives until the end. */
static int take_words(struct qa *qa, int argc, char **argv)
{
    qa->args = argv;
    qa->n_args = argc;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "password=", strlen("password=")) != 0)
            continue;
        char *copy = strdup(argv[i]);
        if (!copy)
            return QA_USAGE;
        explicit_bzero(argv[i], strlen(argv[i]));
        argv[i] = copy;
    }
    return QA_OK;
}

int main(int argc, char **argv)
{
    struct options o = {0};
    struct qa qa = {0};

    if (argc == 3 && strcmp(argv[1], "--print-manual") == 0)
        return qa_print_manual(argv[2]);
    if (parse(argc, argv, &o, &qa) != QA_OK)
        return QA_USAGE;
    const char *object = optind < argc ? argv[optind] : NULL;
    const char *verb_name = optind + 1 < argc ? argv[optind + 1] : NULL;
    qa.object = object ? find_object(object) : NULL;
    const struct qa_verb *verb = qa.object && verb_name ? find_verb(qa.object, verb_name) : NULL;
    if (o.help && (!object || qa.object)) {
        print_help(qa.object, verb ? verb_name : NULL, stdout);
        return QA_OK;
    }
    if (!verb) {
        if (object && !qa.object)
            fprintf(stderr, "Error: there is no object \"%s\"\n", object);
        else if (verb_name)
            fprintf(stderr, "Error: %s has no verb \"%s\"\n", object, verb_name);
        print_help(qa.object, NULL, stderr);
        return QA_USAGE;
    }
    qa.verb = verb_name;
    int status = take_words(&qa, argc - optind - 2, argv + optind + 2);
    if (status == QA_OK)
        status = connect_and_run(&qa, &o, verb);
    if (o.password)
        explicit_bzero(o.password, strlen(o.password));
    free(o.password);
    return status;
}
