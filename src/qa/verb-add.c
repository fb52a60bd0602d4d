// SPDX-License-Identifier: GPL-3.0-or-later
/* add: one object of key=value words. */
#include <string.h>

#include "base/str.h"
#include "qa/qa.h"

/* A user's password comes without appearing in argv: password=- (or password= on a terminal) asks
 * for it, or takes a line of stdin. */
static int take_password(json_t *object)
{
    const char *given = json_string_value(json_object_get(object, "password"));

    if (!given || (*given && strcmp(given, "-") != 0))
        return 0;
    char *password = qa_read_secret("Password of the user: ", false);
    if (!password || !*password) {
        fprintf(stderr, "Error: no password was given\n");
        free(password);
        return QA_USAGE;
    }
    int r = json_object_set_new(object, "password", json_string(password));
    explicit_bzero(password, strlen(password));
    free(password);
    return r < 0 ? QA_USAGE : 0;
}

int qa_add(struct qa *qa)
{
    struct qvd_error err;
    json_t *object = qa_pairs(qa), *answer = NULL;

    if (!object)
        return QA_USAGE;
    if (take_password(object) != 0) {
        json_decref(object);
        return QA_USAGE;
    }
    int r = session_call(qa->session, "POST", qa->object->name, object, &answer, &err);
    json_decref(object);
    if (r != SESSION_OK)
        return qa_fail(r, &err);
    if (!qa->quiet)
        printf("%s added with id %lld\n", qa->object->title,
               (long long)json_integer_value(json_object_get(answer, "id")));
    json_decref(answer);
    return QA_OK;
}
