// SPDX-License-Identifier: GPL-3.0-or-later
/* Words of the command line, questions and failures. */
#include <string.h>

#include "base/ask.h"
#include "base/buf.h"
#include "base/str.h"
#include "http/uri.h"
#include "qa/qa.h"

json_t *qa_pairs(const struct qa *qa)
{
    json_t *object = json_object();

    for (int i = 0; object && i < qa->n_args; i++) {
        const char *equals = strchr(qa->args[i], '=');
        if (!equals || equals == qa->args[i]) {
            fprintf(stderr, "Syntax error: \"%s\" is not of the form key=value\n", qa->args[i]);
            json_decref(object);
            return NULL;
        }
        _cleanup_(free_p) char *key = strndup(qa->args[i], equals - qa->args[i]);
        json_t *value = json_string(equals + 1);
        if (!key || !value || json_object_get(object, key) ||
            json_object_set_new(object, key, value) < 0) {
            fprintf(stderr, "Syntax error: \"%s\": given twice, or not UTF-8\n", qa->args[i]);
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

static must_check int add_param(struct buf *b, const char *key, const char *value, char *separator)
{
    if (!value)
        return 0;
    int r = buf_printf(b, "%c%s=", *separator, key);
    *separator = '&';
    return r < 0 ? r : http_encode(b, value);
}

char *qa_target(const char *path, const char *filter, const char *fields, const char *sort)
{
    _cleanup_(buf_done_p) struct buf b = {0};
    char separator = '?';

    if (buf_append_str(&b, path) < 0 || add_param(&b, "filter", filter, &separator) < 0 ||
        add_param(&b, "fields", fields, &separator) < 0 ||
        add_param(&b, "sort", sort, &separator) < 0)
        return NULL;
    const char *text = buf_cstr(&b);
    return text ? strdup(text) : NULL;
}

int qa_confirm(const struct qa *qa, const char *question)
{
    char line[16];

    if (qa->yes)
        return QA_OK;
    if (!isatty(STDIN_FILENO)) {
        fprintf(stderr, "%s Without a terminal say --yes, or which by -f.\n", question);
        return QA_USAGE;
    }
    fprintf(stderr, "%s [y/N] ", question);
    if (fgets(line, sizeof line, stdin) && (line[0] == 'y' || line[0] == 'Y'))
        return QA_OK;
    return QA_REFUSED;
}

char *qa_read_secret(const char *prompt, bool terminal_only)
{
    if (terminal_only && !isatty(STDIN_FILENO))
        return NULL;
    return ask_secret(prompt);
}

int qa_fail(int result, const struct qvd_error *err)
{
    fprintf(stderr, "Error: %s\n", err->text);
    switch (result) {
    case SESSION_OK:
        return QA_OK;
    case SESSION_NOT_FOUND:
        return QA_NOT_FOUND;
    case SESSION_BAD:
        return QA_USAGE;
    case SESSION_REFUSED:
        return QA_REFUSED;
    default:
        return QA_UNREACHABLE;
    }
}
