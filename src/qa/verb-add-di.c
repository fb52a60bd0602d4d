// SPDX-License-Identifier: GPL-3.0-or-later
/* di add: as add, then shows how far the copy is until the image is published or refused. */
#include <string.h>
#include <time.h>

#include "base/str.h"
#include "qa/qa.h"

/* The API tells how far it is when asked; asking four times a second is enough for a person. */
static void pause_a_little(void)
{
    struct timespec quarter = {.tv_nsec = 250000000};

    nanosleep(&quarter, NULL);
}

static bool one_of(const char *state, const char *const *words)
{
    for (; *words; words++)
        if (str_eq(state, *words))
            return true;
    return false;
}

static int follow(struct qa *qa, json_int_t id)
{
    static const char *const good[] = {"published", "ready", "retired", NULL};
    static const char *const bad[] = {"fail", "upload_stalled", NULL};
    _cleanup_(free_p) char *target =
        str_printf("di/%lld?fields=state,percentage,status_message", (long long)id);

    for (;;) {
        struct qvd_error err;
        json_t *answer = NULL;
        int r = target ? session_call(qa->session, "GET", target, NULL, &answer, &err) : -ENOMEM;
        if (r != SESSION_OK)
            return qa_fail(r, &err);
        double percent = json_number_value(json_object_get(answer, "percentage"));
        const char *state = json_string_value(json_object_get(answer, "state"));
        const char *message = json_string_value(json_object_get(answer, "status_message"));
        bool ended = one_of(state, good), failed = one_of(state, bad);
        if (!qa->quiet && isatty(STDERR_FILENO)) {
            fprintf(stderr, "\rcopying %3.0f %%%s", ended ? 100 : percent,
                    ended || failed ? "\n" : "");
        }
        if (failed)
            fprintf(stderr, "Error: DI %lld: %s\n", (long long)id, message ? message : "it failed");
        json_decref(answer);
        if (ended || failed)
            return failed ? QA_REFUSED : QA_OK;
        pause_a_little();
    }
}

int qa_add_di(struct qa *qa)
{
    struct qvd_error err;
    json_t *object = qa_pairs(qa), *answer = NULL;

    if (!object)
        return QA_USAGE;
    int r = session_call(qa->session, "POST", "di", object, &answer, &err);
    json_decref(object);
    if (r != SESSION_OK)
        return qa_fail(r, &err);
    json_int_t id = json_integer_value(json_object_get(answer, "id"));
    json_decref(answer);
    int status = follow(qa, id);
    if (status == QA_OK && !qa->quiet)
        printf("DI added with id %lld\n", (long long)id);
    return status;
}
