// SPDX-License-Identifier: GPL-3.0-or-later
/* Plugins that are files of others are asked in a process of their own, one a question, which ends
 * with its answer: one that crashes or hangs is the end of that question alone.
 *
 * The process is a fork without an exec, with all rights long given up: of what it inherits it
 * keeps the log and its end of a channel, and it never sees the loop or the database. */
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "authd/authd-internal.h"
#include "base/log.h"
#include "ev/child.h"

#define ANSWER_FD 3

struct apart {
    struct list node;
    struct authd *authd;
    struct job *job; /* NULL: it was answered */
    int64_t tenant_id;
    bool late;
    pid_t pid;
    struct ipc_channel *channel;
    struct ev_timer *limit;
};

static const struct ipc_field said_fields[] = {
    IPC_FIELD(struct said, verdict, IPC_U32, AUTH_AWAY),
    IPC_FIELD(struct said, name, IPC_STR, LOGIN_NAME_MAX - 1),
    IPC_FIELD(struct said, tenant, IPC_STR, LOGIN_NAME_MAX - 1),
    IPC_FIELD(struct said, rehash, IPC_BOOL, 0),
    IPC_FIELD(struct said, allowed, IPC_BOOL, 0),
    IPC_FIELD(struct said, lists, IPC_BOOL, 0),
    IPC_FIELD(struct said, vms, IPC_BYTES, AUTH_VMS_MAX * sizeof(uint64_t)),
    IPC_FIELD(struct said, params, IPC_STR, AUTH_PARAMS_MAX),
};
static const struct ipc_message said_msg = {.type = 119,
                                            .name = "said",
                                            .size = sizeof(struct said),
                                            .fields = said_fields,
                                            .n_fields = ARRAY_SIZE(said_fields)};

/* In the child --------------------------------------------------------------------------------- */

_Noreturn static void child(const struct job *j, int fd, unsigned seconds)
{
    struct buf b = {.limit = 2 * IPC_MAX};
    static struct hooks h;

    (void)signal(SIGTERM, SIG_DFL); /* its handler is the loop's */
    if (dup3(fd, ANSWER_FD, 0) < 0 || syscall(SYS_close_range, ANSWER_FD + 1U, ~0U, 0U) < 0)
        _exit(1);
    (void)alarm(seconds); /* should qvd-authd be gone by then */
    hooks_ask(j, &h);
    if (ipc_encode(&said_msg, &h.said, &b) < 0)
        _exit(1);
    _exit(send(ANSWER_FD, b.data, b.len, MSG_NOSIGNAL) == (ssize_t)b.len ? 0 : 1);
}

/* In qvd-authd --------------------------------------------------------------------------------- */

/* Its end, at once if need be: the status of waitpid(2). */
static int end(struct apart *a)
{
    int status = -1;

    if (a->pid > 0) {
        (void)kill(a->pid, SIGKILL); /* changes nothing for one that is ending */
        while (waitpid(a->pid, &status, 0) < 0 && errno == EINTR)
            ;
    }
    a->pid = 0;
    return status;
}

static struct apart *apart_free(struct apart *a)
{
    if (a) {
        list_remove(&a->node);
        ipc_channel_free(a->channel);
        ev_timer_free(a->limit);
        (void)end(a);
        free(a);
    }
    return NULL;
}

static void answer(struct apart *a, const struct said *s)
{
    struct job *j = a->job;

    a->job = NULL;
    if (j)
        job_heard(j, s);
}

static int on_said(void *owner, const void *msg, int *fd)
{
    answer(owner, msg);
    return 0;
}

static const struct said no_answer = {.verdict = AUTH_AWAY, .params = "{}"};

static void on_closed(void *owner, int reason)
{
    struct apart *a = owner;
    struct authd *d = a->authd;
    int status = end(a);
    char text[32];

    if (a->job)
        log_error("plugins of tenant %lld: %s; who asked is told to try again",
                  (long long)a->tenant_id,
                  a->late ? "no answer within l7r.authd.timeout"
                          : ev_child_status_text(status, text, sizeof text));
    answer(a, &no_answer);
    apart_free(a);
    authd_schedule(d); /* somebody may wait for the place */
}

static void on_late(void *arg)
{
    struct apart *a = arg;

    a->late = true;
    (void)kill(a->pid, SIGKILL);
}

static const struct ipc_handler handlers[] = {
    {&said_msg, ~0u, on_said}
};

static must_check int start(struct apart *a)
{
    struct ev_loop *loop = a->authd->loop;
    uint64_t limit_ms = (uint64_t)conf_ms(a->authd->conf, "l7r.authd.timeout");
    int fds[2];
    int r = ev_timer_new(loop, on_late, a, &a->limit);

    if (r == 0)
        r = ipc_pair(fds);
    if (r < 0)
        return r;
    a->pid = fork();
    if (a->pid == 0)
        child(a->job, fds[1], (unsigned)(limit_ms / 1000 + 2));
    r = a->pid < 0 ? -errno : 0;
    fd_close(fds[1]);
    if (r < 0) {
        fd_close(fds[0]);
        return r;
    }
    ev_timer_arm(a->limit, limit_ms);
    return ipc_channel_new(loop, fds[0], handlers, ARRAY_SIZE(handlers), on_closed, a, &a->channel);
}

void apart_ask(struct job *j)
{
    struct authd *d = j->authd;
    struct apart *a = calloc(1, sizeof *a);
    int r = -ENOMEM;

    if (a) {
        *a = (struct apart){.authd = d, .job = j, .tenant_id = j->tenant_id};
        list_init(&a->node);
        list_append(&d->aparts, &a->node);
        r = start(a);
    }
    if (r == 0)
        return;
    log_error("plugins of tenant %lld: no process for them: %s", (long long)j->tenant_id,
              strerror(-r));
    apart_free(a);
    job_heard(j, &no_answer);
}

void apart_end_all(struct authd *d)
{
    QVD_LIST_FOREACH (a, &d->aparts, struct apart, node)
        apart_free(a);
}

/* Places ----------------------------------------------------------------------------------------
 */

/* One tenant's plugins take half of the places, so that when they hang the others have theirs. */
bool apart_has_place(const struct authd *d, int64_t tenant_id)
{
    int64_t max = conf_int(d->conf, "l7r.authd.processes"), all = 0, own = 0;

    QVD_LIST_FOREACH (a, &d->aparts, struct apart, node) {
        all++;
        own += a->tenant_id == tenant_id;
    }
    return all < max && own < max / 2;
}

/* As with the places, so with the queue. */
bool apart_may_wait(const struct authd *d, int64_t tenant_id)
{
    int64_t waiting = 0;

    QVD_LIST_FOREACH (j, &d->jobs, struct job, node)
        waiting += j->state == JOB_READY && j->apart && j->tenant_id == tenant_id;
    return waiting < (conf_int(d->conf, "l7r.authd.queue.max") + 1) / 2;
}
