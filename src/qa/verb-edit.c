// SPDX-License-Identifier: GPL-3.0-or-later
/* edit: sets key=value words in all objects that the filter finds. */
#include "base/str.h"
#include "qa/qa.h"

static const json_t *changes;

static int edit_one(struct qa *qa, json_int_t id, struct qvd_error *err)
{
    _cleanup_(free_p) char *target = str_printf("%s/%lld", qa->object->name, (long long)id);

    return target ? session_call(qa->session, "PATCH", target, changes, NULL, err) : -ENOMEM;
}

int qa_edit(struct qa *qa)
{
    json_t *object = qa_pairs(qa), *rows = NULL;
    char question[80];
    int done = 0, status;

    if (!object || json_object_size(object) == 0) {
        if (object)
            fprintf(stderr, "Syntax error: what shall be set? key=value\n");
        json_decref(object);
        return QA_USAGE;
    }
    snprintf(question, sizeof question, "Edit all %s?", qa->object->plural);
    status = qa->filter ? QA_OK : qa_confirm(qa, question);
    if (status == QA_OK)
        status = qa_find(qa, NULL, &rows);
    if (status == QA_OK && rows) {
        changes = object;
        status = qa_each(qa, rows, edit_one, &done);
        if (!qa->quiet)
            printf("Edited %d %s.\n", done, qa->object->plural);
    }
    json_decref(rows);
    json_decref(object);
    return status;
}
