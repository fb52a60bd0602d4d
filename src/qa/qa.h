// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* qa: what its files share. A command is an object and a verb; objects are rows of a table with
 * their columns, verbs are rows with a function, one file each. */

#include <jansson.h>
#include <stdbool.h>

#include "qa/session.h"

/* Exit statuses (details of administration). */
enum qa_exit {
    QA_OK = 0,
    QA_SOME_FAILED = 1,
    QA_USAGE = 2,
    QA_NOT_FOUND = 3,
    QA_REFUSED = 4,
    QA_UNREACHABLE = 5,
};

enum qa_format { QA_TABLE, QA_CSV, QA_JSON };

/* A column of a list. how: how a value is shown. */
enum qa_show {
    QA_PLAIN,
    QA_BIT,   /* 0 or 1 */
    QA_YES,   /* yes or no */
    QA_AGE,   /* seconds as HH:MM:SS */
    QA_ROUND, /* a number without decimals */
    QA_WORDS, /* a list, joined by commas */
};
struct qa_column {
    const char *title, *field;
    enum qa_show how;
};

struct qa_object {
    const char *name;                /* "vm": word of the command line and of the API */
    const char *plural;              /* "virtual machines", for questions */
    const char *title;               /* "VM": for "VM added with id 7" */
    const char *label;               /* field that names one to people */
    const char *example;             /* of an add */
    const struct qa_column *columns; /* ended by a NULL title */
};
extern const struct qa_object qa_objects[]; /* ended by a NULL name */

struct qa {
    struct session *session;
    const struct qa_object *object;
    const char *verb;
    const char *filter; /* NULL: none was given */
    const char *fields, *sort;
    enum qa_format format;
    bool quiet, yes, wait;
    char **args; /* words behind the verb */
    int n_args;
};

/* What a verb does. objects: words separated by blanks, "*": all of the table. */
struct qa_verb {
    const char *name, *objects;
    const char *args; /* for the help */
    const char *text;
    int (*fn)(struct qa *qa); /* gives an enum qa_exit */
};
extern const struct qa_verb qa_verbs[]; /* ended by a NULL name */

/* The source of qa(1): the file with its line @VERBS@ replaced by the table. The exit status. */
int qa_print_manual(const char *path);

int qa_list(struct qa *qa);
int qa_counters(struct qa *qa);
int qa_show(struct qa *qa);
int qa_add(struct qa *qa);
int qa_add_di(struct qa *qa);
int qa_edit(struct qa *qa);
int qa_del(struct qa *qa);
int qa_act(struct qa *qa); /* block, unblock, start, stop, disconnect_user */
int qa_tag(struct qa *qa); /* tag, untag */
int qa_passwd(struct qa *qa);
int qa_config_get(struct qa *qa);
int qa_config_set(struct qa *qa);
int qa_config_del(struct qa *qa);
int qa_config_ssl(struct qa *qa);

/* words.c */
/* The words "key=value" as an object. Told and NULL when one is not of that form. */
json_t *qa_pairs(const struct qa *qa);
/* "vm?filter=...&fields=..." as a new string; any may be NULL. NULL when out of memory. */
char *qa_target(const char *path, const char *filter, const char *fields, const char *sort);
/* Asks [y/N] on a terminal; --yes answers. QA_OK, QA_USAGE (no terminal), QA_REFUSED (no). */
int qa_confirm(const struct qa *qa, const char *question);
/* A line without echo (new, without newline; wipe and free it); prompt is shown on a terminal only.
 * NULL when there is none. */
char *qa_read_secret(const char *prompt, bool terminal_only);
/* "Error: ..." on stderr; the exit status for a result of session_call(). */
int qa_fail(int result, const struct qvd_error *err);

/* objects.c */
/* The objects that the filter finds: rows with id, the label and more (field names separated by
 * commas, may be NULL). 0, or an exit status already told. */
int qa_find(struct qa *qa, const char *more, json_t **ret_rows);
/* Does fn for each row; QA_OK, or the status for those that failed (each told). ret_done counts. */
int qa_each(struct qa *qa, const json_t *rows,
            int (*fn)(struct qa *qa, json_int_t id, struct qvd_error *err), int *ret_done);

/* output.c */
/* Rows (an array of objects) by columns, in the format asked for. */
int qa_print_rows(const struct qa *qa, const json_t *rows, const struct qa_column *columns);
