// SPDX-License-Identifier: GPL-3.0-or-later

/* The common beginning of the daemons: options, settings, log. */

#include "conf/main.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "conf/conf-internal.h"
#include "config.h"

enum { OPTIONS_MAX = 32, OPT_CHECK = 1000, OPT_DUMP, OPT_MORE };

struct start {
    const struct conf_program *p;
    const char *file;
    bool check, dump;
    struct option longs[OPTIONS_MAX + 6];
    char shorts[2 * OPTIONS_MAX + 8];
};

static const char *default_file(const struct conf_program *p)
{
    if (p->file)
        return p->file;
    if (p->files & CONF_IN_NODE)
        return QVD_SYSCONFDIR "/node.conf";
    if (p->files & CONF_IN_VMA)
        return QVD_SYSCONFDIR "/vma.conf";
    if (p->files & CONF_IN_CLIENT)
        return QVD_SYSCONFDIR "/client.conf";
    return QVD_SYSCONFDIR "/qa.conf";
}

static void help_row(const char *left, const char *text)
{
    printf("  %-26s %s\n", left, text);
}

static void help(const struct conf_program *p)
{
    char left[64], text[300];

    printf("usage: %s [options]\n%s\n\n", p->name, p->summary);
    (void)snprintf(text, sizeof text, "settings (%s)", default_file(p));
    help_row("-f, --config FILE", text);
    help_row("    --check-config", "check the settings and end: 0 good, 1 bad");
    help_row("    --dump-config", "print all settings with where they come from, and end");
    for (const struct conf_option *o = p->options; o && o->name; o++) {
        (void)snprintf(left, sizeof left, "%c%c%s --%s%s%s", o->letter ? '-' : ' ',
                       o->letter ? o->letter : ' ', o->letter ? "," : " ", o->name,
                       o->arg ? " " : "", o->arg ? o->arg : "");
        help_row(left, o->text);
    }
    help_row("-h, --help", "print this and end");
    help_row("-V, --version", "print the version and end");
}

static void add_long(struct start *s, size_t *n, const char *name, bool arg, int value)
{
    s->longs[(*n)++] = (struct option){name, arg ? required_argument : no_argument, NULL, value};
}

static void prepare(struct start *s)
{
    size_t n = 0, letters = 0;
    const struct conf_option *o = s->p->options;

    strcpy(s->shorts, "f:hV");
    letters = strlen(s->shorts);
    add_long(s, &n, "config", true, 'f');
    add_long(s, &n, "help", false, 'h');
    add_long(s, &n, "version", false, 'V');
    add_long(s, &n, "check-config", false, OPT_CHECK);
    add_long(s, &n, "dump-config", false, OPT_DUMP);
    for (int i = 0; o && o[i].name && i < OPTIONS_MAX; i++) {
        add_long(s, &n, o[i].name, o[i].arg, OPT_MORE + i);
        if (!o[i].letter)
            continue;
        s->shorts[letters++] = o[i].letter;
        if (o[i].arg)
            s->shorts[letters++] = ':';
    }
}

static int usage(const struct conf_program *p)
{
    fprintf(stderr, "%s: try --help\n", p->name);
    return 2;
}

static int more_option(const struct conf_program *p, int opt)
{
    for (int i = 0; p->options && p->options[i].name; i++) {
        const struct conf_option *o = &p->options[i];

        if (opt == OPT_MORE + i || (o->letter && opt == o->letter))
            return p->option ? p->option(p->arg, o, optarg) : 0;
    }
    return -EINVAL;
}

/* -1: go on; else the exit status. */
static int options(struct start *s, int argc, char **argv)
{
    int opt;

    prepare(s);
    optind = 1;
    while ((opt = getopt_long(argc, argv, s->shorts, s->longs, NULL)) != -1) {
        switch (opt) {
        case 'f':
            s->file = optarg;
            break;
        case 'h':
            help(s->p);
            return 0;
        case 'V':
            printf("%s %s\n", s->p->name, QVD_VERSION);
            return 0;
        case OPT_CHECK:
            s->check = true;
            break;
        case OPT_DUMP:
            s->dump = true;
            break;
        default:
            if (opt == '?' || more_option(s->p, opt) < 0)
                return usage(s->p);
        }
    }
    if (optind < argc) {
        fprintf(stderr, "%s: unexpected argument: %s\n", s->p->name, argv[optind]);
        return usage(s->p);
    }
    return -1;
}

static void warn_by_log(void *arg, const char *text)
{
    (void)arg;
    log_warning("%s", text);
}

static enum log_level level_of(const char *word)
{
    static const struct {
        const char *word;
        enum log_level level;
    } levels[] = {
        {"ALL",   LOG_LEVEL_DEBUG  },
        {"TRACE", LOG_LEVEL_DEBUG  },
        {"DEBUG", LOG_LEVEL_DEBUG  },
        {"INFO",  LOG_LEVEL_INFO   },
        {"WARN",  LOG_LEVEL_WARNING},
        {"ERROR", LOG_LEVEL_ERROR  },
        {"FATAL", LOG_LEVEL_ERROR  },
        {"OFF",   LOG_LEVEL_OFF    },
    };

    for (size_t i = 0; i < ARRAY_SIZE(levels); i++)
        if (strcasecmp(levels[i].word, word) == 0)
            return levels[i].level;
    return LOG_LEVEL_INFO;
}

static const char *log_program; /* whose log conf_main_reload() opens again */
static bool log_tool;

/* log.<part>.WORD of qvd-<part> where that is set, else otherwise. */
static const char *log_setting(const struct conf *c, const char *program, const char *word,
                               const char *otherwise)
{
    char key[64];

    if (str_starts(program, "qvd-") &&
        str_format(key, sizeof key, "log.%s.%s", program + strlen("qvd-"), word) == 0 &&
        conf_find(key) && *conf_str(c, key))
        return conf_str(c, key);
    return otherwise;
}

/* Where %p stands for the program's name; a new string. */
static char *log_path(const struct conf *c, const char *program, const char *file)
{
    const char *mark = strstr(file, "%p");

    if (mark)
        return str_printf("%.*s%s%s", (int)(mark - file), file, program, mark + 2);
    return *file ? strdup(file) : str_printf("%s/%s.log", conf_str(c, "path.log"), program);
}

/* The folder of the file may be new: a VM's /var/log is made anew with its overlay. */
static int make_folder(const struct conf *c, const char *path)
{
    _cleanup_(free_p) char *folder = strdup(path);
    char *end = folder ? strrchr(folder, '/') : NULL;

    if (!end || end == folder)
        return -ENOENT;
    *end = '\0';
    /* Elsewhere it is more likely a mistake. */
    if (strcmp(folder, conf_str(c, "path.log")) != 0 && !str_starts(folder, "/var/log/"))
        return -ENOENT;
    return fs_mkdirs(folder, 0755);
}

static void log_to_file(const struct conf *c, const char *program, const char *file)
{
    _cleanup_(free_p) char *path = log_path(c, program, file);
    int r = path ? log_set_file(path) : -ENOMEM;

    if (r == -ENOENT && make_folder(c, path) == 0)
        r = log_set_file(path);
    if (r < 0)
        log_warning("log.filename = %s: %s; lines go where they went before", path ? path : file,
                    strerror(-r));
}

static void log_to_syslog(const struct conf *c)
{
    const char *address = conf_str(c, "log.syslog.address");
    int r = log_set_syslog(address, log_facility(conf_str(c, "log.syslog.facility")));

    if (r < 0)
        log_warning("log.syslog.address = %s: %s; lines go where they went before", address,
                    strerror(-r));
}

/* The original's "LEVEL, APPENDER": 1 syslog, 0 not set, -EINVAL something else. */
static int log4perl(const struct conf *c, char *level, size_t size)
{
    const char *at = NULL, *text = conf_str(c, "log4perl.rootLogger");
    struct qvd_error err;
    char word[32];

    if (!conf_list_next(text, &at, level, size))
        return 0;
    if (conf_check(conf_find("log.level"), level, &err) < 0)
        return -EINVAL;
    if (!conf_list_next(text, &at, word, sizeof word) || strcasecmp(word, "SYSLOG") != 0 ||
        conf_list_next(text, &at, word, sizeof word))
        return -EINVAL;
    return 1;
}

static void set_log(const struct conf *c, const char *program)
{
    const char *target = conf_str(c, "log.target"), *file = conf_str(c, "log.filename");
    const char *level = log_setting(c, program, "level", conf_str(c, "log.level"));
    char word[32];
    int original = log4perl(c, word, sizeof word);

    file = log_setting(c, program, "filename", file);

    if (original > 0 && !conf_is_set(c, "log.target"))
        target = "syslog";
    if (original > 0 && level == conf_str(c, "log.level") && !conf_is_set(c, "log.level"))
        level = word;
    if (log_inherited()) /* a daemon's helper: its log is ours */
        return;
    log_set_level(level_of(level));
    if (log_tool)
        return;
    if (strcasecmp(target, "syslog") == 0)
        log_to_syslog(c);
    else if (strcasecmp(target, "file") == 0 || (strcasecmp(target, "auto") == 0 && *file))
        log_to_file(c, program, file);
    else if (log_set_file(NULL) < 0)
        log_warning("standard error is closed");
    log_share();
    if (original < 0)
        log_warning("log4perl.rootLogger = %s: only \"LEVEL, SYSLOG\" is understood, ignoring it: "
                    "use log.target, log.filename and log.level",
                    conf_str(c, "log4perl.rootLogger"));
}

/* A file with passwords is for its owner only. */
static void warn_if_open(const struct conf *c, const char *file)
{
    size_t n;
    const struct conf_key *keys = conf_keys(&n);
    struct stat st;

    if (stat(file, &st) < 0 || !(st.st_mode & 0077))
        return;
    for (size_t i = 0; i < n; i++)
        if (keys[i].type == CONF_SECRET && *conf_str(c, keys[i].key) &&
            str_starts(conf_source(c, &keys[i]), file)) {
            log_warning("%s: others may read %s: chmod 0600 %s", conf_source(c, &keys[i]),
                        keys[i].key, file);
            return;
        }
}

/* Servers leave it to qvd-deploy-db, which may look into the database and stands beside them. Comes
 * back when that is not there. */
static void dump_by_deploy(const char *file)
{
    char self[PATH_MAX];
    _cleanup_(free_p) char *program = NULL;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash;

    self[n > 0 ? n : 0] = 0;
    slash = strstr(self, "/lib/qvd/");
    if (!slash)
        return;
    program = str_printf("%.*s/bin/qvd-deploy-db", (int)(slash - self), self);
    if (program)
        (void)execl(program, "qvd-deploy-db", "--config", file, "--dump-config", (char *)NULL);
}

static void dump(const struct conf_program *p, struct conf *c, const char *file)
{
    struct qvd_error err;

    if ((p->files & CONF_IN_NODE) && !p->rows)
        dump_by_deploy(file);
    if (p->rows && p->rows(c, &err) < 0)
        printf("# Without the settings of the database: %s\n", err.text);
    conf_dump(c, p->files, stdout);
}

struct conf *conf_main(const struct conf_program *p, int argc, char **argv, int *ret_status)
{
    struct start s = {.p = p};
    _cleanup_(conf_free_p) struct conf *c = NULL;
    struct qvd_error err;
    int r;

    log_program = p->name;
    log_open(p->name);
    *ret_status = options(&s, argc, argv);
    if (*ret_status >= 0)
        return NULL;
    *ret_status = 1;
    c = conf_new(warn_by_log, NULL);
    if (!c) {
        log_error("out of memory");
        return NULL;
    }
    r = conf_load(c, s.file ? s.file : default_file(p), &err);
    if (r == -ENOENT && !s.file && p->file_optional)
        r = 0;
    if (r == 0 && p->check)
        r = p->check(p->arg, c, &err);
    if (r < 0) {
        log_error("%s", err.text);
        return NULL;
    }
    warn_if_open(c, s.file ? s.file : default_file(p));
    if (s.dump)
        dump(p, c, s.file ? s.file : default_file(p));
    if (s.dump || s.check) {
        *ret_status = fflush(stdout) == 0 ? 0 : 1;
        return NULL;
    }
    log_tool = p->tool;
    set_log(c, p->name);
    return TAKE_PTR(c);
}

void conf_main_reload(struct conf *c)
{
    struct qvd_error err;

    if (conf_reload(c, &err) < 0)
        log_error("settings not reloaded: %s", err.text);
    set_log(c, log_program);
}
