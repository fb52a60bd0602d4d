// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The first lines of each daemon's main(): --help, --version, -f/--config FILE, --check-config,
 * --dump-config; reads the settings and opens the log as they say. */

#include "conf/conf.h"

struct conf_option {
    char letter;      /* 0: only the long form */
    const char *name; /* without -- */
    const char *arg;  /* what --help calls its argument; NULL: takes none */
    const char *text;
};

struct conf_program {
    const char *name;    /* "qvd-hkd" */
    const char *summary; /* one line for --help */
    unsigned files;      /* CONF_IN_...: what --dump-config shows; also chooses the default file */
    const char *file;    /* default of -f; NULL: the usual one of files */
    bool file_optional;  /* its absence is no error when -f was not given */
    /* --dump-config: reads the database's rows into c (conf_set_rows()); what fails is told in the
     * dump. NULL: qvd-deploy-db does it, where the program reads node.conf. */
    int (*rows)(struct conf *c, struct qvd_error *err);
    bool tool; /* run by people: its lines go to standard error, whatever the settings say */
    /* More options, ended by a row without a name. option() is called for each: 0, or -EINVAL to
     * end with the usage. */
    const struct conf_option *options;
    int (*option)(void *arg, const struct conf_option *o, const char *value);
    /* More checks of the values, for --check-config and every start; may be NULL. */
    int (*check)(void *arg, const struct conf *c, struct qvd_error *err);
    void *arg;
};

/* The settings (free by conf_free()), or NULL: end with *ret_status (0 after --help, 2 usage, 1 bad
 * settings; everything has been told). Arguments that are no options are an error. */
must_check struct conf *conf_main(const struct conf_program *p, int argc, char **argv,
                                  int *ret_status);
/* For SIGHUP: reads the files again, sets the log's level and file anew (reopened for logrotate),
 * and logs what went wrong; the settings then are as before. */
void conf_main_reload(struct conf *c);
