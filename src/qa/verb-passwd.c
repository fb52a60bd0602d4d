// SPDX-License-Identifier: GPL-3.0-or-later
/* user passwd: asks twice on a terminal, else takes one line of stdin. */
#include <string.h>

#include "base/str.h"
#include "qa/qa.h"

/* A new string (wipe and free it), NULL when told why not. */
static char *ask(const char *login)
{
    _cleanup_(free_p) char *prompt = str_printf("New password for %s: ", login);
    char *first = prompt ? qa_read_secret(prompt, false) : NULL;

    if (!first || !*first) {
        fprintf(stderr, "Error: no password was given\n");
        free(first);
        return NULL;
    }
    if (!isatty(STDIN_FILENO))
        return first;
    char *again = qa_read_secret("Again: ", true);
    bool same = str_eq(first, again);
    if (again)
        explicit_bzero(again, strlen(again));
    free(again);
    if (same)
        return first;
    fprintf(stderr, "Error: the passwords differ\n");
    explicit_bzero(first, strlen(first));
    free(first);
    return NULL;
}

static const char *new_password;

static int set_one(struct qa *qa, json_int_t id, struct qvd_error *err)
{
    _cleanup_(free_p) char *target = str_printf("user/%lld", (long long)id);
    json_t *body = json_pack("{s:s}", "password", new_password);
    int r = target && body ? session_call(qa->session, "PATCH", target, body, NULL, err)
                           : qvd_error_set(err, SESSION_BAD, "the password is not UTF-8");

    json_decref(body);
    return r;
}

int qa_passwd(struct qa *qa)
{
    json_t *words = qa_pairs(qa), *rows = NULL;
    const char *login = words ? json_string_value(json_object_get(words, "user")) : NULL;
    int done = 0;

    if (!login || json_object_size(words) != 1) {
        if (words)
            fprintf(stderr, "Syntax error: qa user passwd user=LOGIN\n");
        json_decref(words);
        return QA_USAGE;
    }
    _cleanup_(free_p) char *filter = qa->filter ? str_printf("login=\"%s\",(%s)", login, qa->filter)
                                                : str_printf("login=\"%s\"", login);
    qa->filter = filter;
    int status = filter ? qa_find(qa, NULL, &rows) : QA_SOME_FAILED;
    if (json_array_size(rows) > 1) { /* one of each tenant: never all at once */
        fprintf(stderr, "Error: several tenants have a user %s; add -f tenant=NAME\n", login);
        json_decref(rows);
        json_decref(words);
        return QA_USAGE;
    }
    char *password = status == QA_OK && rows ? ask(login) : NULL;
    if (password) {
        new_password = password;
        status = qa_each(qa, rows, set_one, &done);
        explicit_bzero(password, strlen(password));
        free(password);
        if (status == QA_OK && !qa->quiet)
            printf("Password of %s set.\n", login);
    } else if (status == QA_OK) {
        status = QA_USAGE;
    }
    json_decref(rows);
    json_decref(words);
    return status;
}
