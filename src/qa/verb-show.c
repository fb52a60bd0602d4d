// SPDX-License-Identifier: GPL-3.0-or-later
/* show: all that is known of the objects that the filter finds, a line a field. */
#include <string.h>

#include "base/str.h"
#include "qa/qa.h"

static void print_object(const json_t *row)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)row, key, value)
    {
        if (json_is_string(value)) {
            printf("%-20s %s\n", key, json_string_value(value));
        } else if (json_is_null(value)) {
            printf("%-20s -\n", key);
        } else {
            _cleanup_(free_p) char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
            printf("%-20s %s\n", key, text ? text : "?");
        }
    }
}

int qa_show(struct qa *qa)
{
    struct qvd_error err;
    json_t *answer = NULL, *row;
    size_t i;
    _cleanup_(free_p) char *target = qa_target(qa->object->name, qa->filter, qa->fields, qa->sort);

    if (!target)
        return qa_fail(-ENOMEM, &(struct qvd_error){.text = "out of memory"});
    int r = session_call(qa->session, "GET", target, NULL, &answer, &err);
    if (r != SESSION_OK)
        return qa_fail(r, &err);
    const json_t *rows = json_object_get(answer, "rows");
    if (qa->format == QA_JSON) {
        r = qa_print_rows(qa, rows, NULL);
    } else {
        json_array_foreach(rows, i, row)
        {
            if (i)
                putchar('\n');
            print_object(row);
        }
        r = json_array_size(rows) ? QA_OK : QA_NOT_FOUND;
        if (r == QA_NOT_FOUND && !qa->quiet)
            fprintf(stderr, "No %s match.\n", qa->object->plural);
    }
    json_decref(answer);
    return r;
}
