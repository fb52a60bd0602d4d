// SPDX-License-Identifier: GPL-3.0-or-later
/* del: deletes the objects that the filter finds. */
#include "base/str.h"
#include "qa/qa.h"

static int delete_one(struct qa *qa, json_int_t id, struct qvd_error *err)
{
    _cleanup_(free_p) char *target = str_printf("%s/%lld", qa->object->name, (long long)id);

    return target ? session_call(qa->session, "DELETE", target, NULL, NULL, err) : -ENOMEM;
}

int qa_del(struct qa *qa)
{
    json_t *rows = NULL;
    char question[80];
    int done = 0, status = QA_OK;

    if (qa->n_args) {
        fprintf(stderr, "Syntax error: \"%s\": say which by -f key=value\n", qa->args[0]);
        return QA_USAGE;
    }
    snprintf(question, sizeof question, "Delete all %s?", qa->object->plural);
    if (!qa->filter)
        status = qa_confirm(qa, question);
    if (status == QA_OK)
        status = qa_find(qa, NULL, &rows);
    if (status == QA_OK && rows) {
        status = qa_each(qa, rows, delete_one, &done);
        if (!qa->quiet)
            printf("%d %s deleted.\n", done, qa->object->plural);
    }
    json_decref(rows);
    return status;
}
