// SPDX-License-Identifier: GPL-3.0-or-later
/* di tag and untag: di_id=N tag=WORD. */
#include <string.h>

#include "base/str.h"
#include "qa/qa.h"

int qa_tag(struct qa *qa)
{
    json_t *words = qa_pairs(qa);
    struct qvd_error err;
    uint64_t id = 0;

    if (!words)
        return QA_USAGE;
    const char *di = json_string_value(json_object_get(words, "di_id"));
    const char *tag = json_string_value(json_object_get(words, "tag"));
    if (!di || !tag || json_object_size(words) != 2 || str_to_u64(di, INT64_MAX, &id) < 0) {
        fprintf(stderr, "Syntax error: qa di %s di_id=NUMBER tag=WORD\n", qa->verb);
        json_decref(words);
        return QA_USAGE;
    }
    _cleanup_(free_p) char *target = str_printf("di/%llu/%s", (unsigned long long)id, qa->verb);
    json_t *body = json_pack("{s:s}", "tag", tag);
    int r = target && body ? session_call(qa->session, "POST", target, body, NULL, &err) : -ENOMEM;
    json_decref(body);
    json_decref(words);
    if (r != SESSION_OK)
        return qa_fail(r, &err);
    if (!qa->quiet)
        printf("DI %sged\n", qa->verb);
    return QA_OK;
}
