// SPDX-License-Identifier: GPL-3.0-or-later
/* list and counters: rows of an object by its columns, or by the fields asked for. */
#include <string.h>

#include "base/buf.h"
#include "base/str.h"
#include "qa/qa.h"

#define FIELDS_MAX 64

/* "id,name" of the columns; a new string. */
static char *fields_of(const struct qa_column *columns)
{
    _cleanup_(buf_done_p) struct buf b = {0};

    for (const struct qa_column *c = columns; c->title; c++)
        if (buf_printf(&b, "%s%s", c == columns ? "" : ",", c->field) < 0)
            return NULL;
    const char *text = buf_cstr(&b);
    return text ? strdup(text) : NULL;
}

static int print(struct qa *qa, const struct qa_column *columns)
{
    struct qvd_error err;
    json_t *answer = NULL;
    _cleanup_(free_p) char *fields = fields_of(columns);
    _cleanup_(free_p) char *target =
        fields ? qa_target(qa->object->name, qa->filter, fields, qa->sort) : NULL;

    if (!target)
        return qa_fail(-ENOMEM, &(struct qvd_error){.text = "out of memory"});
    int r = session_call(qa->session, "GET", target, NULL, &answer, &err);
    if (r != SESSION_OK)
        return qa_fail(r, &err);
    r = qa_print_rows(qa, json_object_get(answer, "rows"), columns);
    json_decref(answer);
    return r;
}

static int no_words(const struct qa *qa)
{
    if (qa->n_args == 0)
        return 0;
    fprintf(stderr, "Syntax error: \"%s\": a list is chosen by -f key=value\n", qa->args[0]);
    return QA_USAGE;
}

int qa_list(struct qa *qa)
{
    struct qa_column columns[FIELDS_MAX + 1] = {0};
    size_t n = 0;
    char *at;

    if (no_words(qa))
        return QA_USAGE;
    if (!qa->fields)
        return print(qa, qa->object->columns);
    _cleanup_(free_p) char *copy = strdup(qa->fields);
    for (char *w = copy ? strtok_r(copy, ",", &at) : NULL; w && n < FIELDS_MAX;
         w = strtok_r(NULL, ",", &at))
        columns[n++] = (struct qa_column){w, w, QA_PLAIN};
    return print(qa, columns);
}

int qa_counters(struct qa *qa)
{
    static const struct qa_column host[] = {
        {"Id",            "id", QA_PLAIN},
        {"Name",       "name", QA_PLAIN},
        {"HTTP Requests",          "http_requests", QA_PLAIN},
        {"Auth attempts",       "auth_attempts", QA_PLAIN},
        {"Auth OK", "auth_ok", QA_PLAIN},
        {"NX attempts",       "nx_attempts", QA_PLAIN},
        {"NX OK", "nx_ok", QA_PLAIN},
        {"Short sessions",       "short_sessions", QA_PLAIN},
        {0      },
    };
    static const struct qa_column vm[] = {
        {"Id",           "id", QA_PLAIN},
        {"Name",      "name", QA_PLAIN},
        {"Run attempts",         "run_attempts", QA_PLAIN},
        {"Run OK",      "run_ok", QA_PLAIN},
        {0},
    };

    if (no_words(qa))
        return QA_USAGE;
    return print(qa, strcmp(qa->object->name, "vm") == 0 ? vm : host);
}
