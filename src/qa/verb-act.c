// SPDX-License-Identifier: GPL-3.0-or-later
/* block, unblock, start, stop, disconnect_user: an order to all objects that the filter finds. */
#include <ctype.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/str.h"
#include "qa/qa.h"

#define WAIT_MS 300000

static const struct {
    const char *verb, *order;
    const char *past;  /* "Started" */
    const char *until; /* state to wait for with --wait; NULL: none */
} acts[] = {
    {"block",           "block",      "Blocked",      NULL     },
    {"unblock",         "unblock",    "Unblocked",    NULL     },
    {"start",           "start",      "Started",      "running"},
    {"stop",            "stop",       "Stopped",      "stopped"},
    {"disconnect_user", "disconnect", "Disconnected", NULL     },
    {"disconnect",      "disconnect", "Disconnected", NULL     },
};

static size_t which(const char *verb)
{
    size_t i = 0;

    while (strcmp(acts[i].verb, verb) != 0)
        i++;
    return i;
}

/* Asks the API until the VM is in the state, or blocked by a failed start. */
static int wait_for(struct qa *qa, json_int_t id, const char *until, struct qvd_error *err)
{
    struct timespec tenth = {.tv_nsec = 100000000};
    int64_t deadline = clock_ms() + WAIT_MS;
    _cleanup_(free_p) char *target =
        str_printf("vm/%lld?fields=state,command,blocked_reason", (long long)id);

    for (;;) {
        json_t *answer = NULL;
        int r = target ? session_call(qa->session, "GET", target, NULL, &answer, err) : -ENOMEM;
        if (r != SESSION_OK)
            return r;
        const char *state = json_string_value(json_object_get(answer, "state"));
        const char *command = json_string_value(json_object_get(answer, "command"));
        const char *reason = json_string_value(json_object_get(answer, "blocked_reason"));
        bool there = str_eq(state, until) && !command;
        bool failed = strcmp(until, "running") == 0 && str_eq(state, "stopped") && !command;
        if (failed)
            qvd_error_set(err, SESSION_REFUSED, "%s", reason ? reason : "it stopped again");
        json_decref(answer);
        if (there || failed)
            return there ? SESSION_OK : SESSION_REFUSED;
        if (clock_ms() > deadline)
            return qvd_error_set(err, SESSION_FAILED, "not %s within 300 s", until);
        nanosleep(&tenth, NULL);
    }
}

static int act_one(struct qa *qa, json_int_t id, struct qvd_error *err)
{
    size_t i = which(qa->verb);
    _cleanup_(free_p) char *target =
        str_printf("%s/%lld/%s", qa->object->name, (long long)id, acts[i].order);
    int r = target ? session_call(qa->session, "POST", target, NULL, NULL, err) : -ENOMEM;

    if (r == SESSION_OK && qa->wait && acts[i].until)
        r = wait_for(qa, id, acts[i].until, err);
    return r;
}

int qa_act(struct qa *qa)
{
    json_t *rows = NULL;
    char question[80];
    int done = 0, status = QA_OK;
    size_t i = which(qa->verb);

    if (qa->n_args) {
        fprintf(stderr, "Syntax error: \"%s\": say which by -f key=value\n", qa->args[0]);
        return QA_USAGE;
    }
    snprintf(question, sizeof question, "%c%s all %s?", toupper((unsigned char)qa->verb[0]),
             qa->verb + 1, qa->object->plural);
    if (!qa->filter)
        status = qa_confirm(qa, question);
    if (status == QA_OK)
        status = qa_find(qa, NULL, &rows);
    if (status == QA_OK && rows) {
        status = qa_each(qa, rows, act_one, &done);
        if (!qa->quiet)
            printf("%s %d %s.\n", acts[i].past, done,
                   strcmp(acts[i].order, "disconnect") == 0 ? "users"
                   : strcmp(qa->object->name, "vm") == 0    ? "VMs"
                                                            : qa->object->plural);
    }
    json_decref(rows);
    return status;
}
