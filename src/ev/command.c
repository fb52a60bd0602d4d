// SPDX-License-Identifier: GPL-3.0-or-later
/* Helper commands run to their end (nft, ip, ...): input, output with a limit, a time limit. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include "base/buf.h"
#include "base/fs.h"
#include "ev/child.h"

struct end {
    struct ev_command *command;
    struct ev_io *io;
    int fd;
    struct buf buf; /* still to be written, or read so far */
};

struct ev_command {
    struct ev_loop *loop;
    struct ev_child *child;
    struct ev_timer *timer;
    struct end in, out, errors;
    size_t max;
    bool gone, timed_out;
    int status;
    ev_command_fn *done;
    void *arg;
    struct ev_deferred finish;
};

static void end_close(struct end *e)
{
    e->io = ev_io_free(e->io);
    e->fd = fd_close(e->fd);
}

static struct ev_command *command_free(struct ev_command *c)
{
    struct end *ends[] = {&c->in, &c->out, &c->errors};

    for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
        end_close(ends[i]);
        buf_done(&ends[i]->buf);
    }
    ev_deferred_cancel(&c->finish);
    ev_timer_free(c->timer);
    ev_child_free(c->child);
    free(c);
    return NULL;
}

static void finish(void *arg)
{
    struct ev_command *c = arg;
    static char none[] = "";
    char *out = buf_cstr(&c->out.buf), *errors = buf_cstr(&c->errors.buf);
    struct ev_command_result result = {
        .status = c->timed_out ? -1 : c->status,
        .out = out ? out : none,
        .out_len = out ? c->out.buf.len : 0,
        .errors = errors ? errors : none,
        .errors_len = errors ? c->errors.buf.len : 0,
    };

    c->done(c->arg, &result);
    command_free(c);
}

static void maybe_finish(struct ev_command *c)
{
    if (c->gone && c->out.fd < 0 && c->errors.fd < 0)
        ev_defer(c->loop, &c->finish);
}

static void on_input(void *arg, unsigned events)
{
    struct end *e = arg;
    ssize_t n = e->buf.len ? write(e->fd, e->buf.data, e->buf.len) : 0;

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n > 0)
        buf_consume(&e->buf, n);
    if (n < 0 || e->buf.len == 0)
        end_close(e);
}

/* What exceeds the limit is read and dropped: the command must not hang on a full pipe. */
static void on_output(void *arg, unsigned events)
{
    struct end *e = arg;
    char chunk[4096];
    ssize_t n = read(e->fd, chunk, sizeof chunk);

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n > 0) {
        size_t room = e->command->max > e->buf.len ? e->command->max - e->buf.len : 0;
        (void)!buf_append(&e->buf, chunk, (size_t)n < room ? (size_t)n : room);
        return;
    }
    end_close(e);
    maybe_finish(e->command);
}

static void kill_group(struct ev_command *c)
{
    if (!c->gone && c->child && ev_child_pid(c->child) > 0)
        kill(-ev_child_pid(c->child), SIGKILL);
}

static void on_gone(void *arg, int status)
{
    struct ev_command *c = arg;

    c->gone = true;
    c->status = status;
    maybe_finish(c);
}

/* Also ends the waiting for pipes that a stray grandchild keeps open. */
static void on_timeout(void *arg)
{
    struct ev_command *c = arg;

    c->timed_out = !c->gone;
    kill_group(c);
    end_close(&c->out);
    end_close(&c->errors);
    maybe_finish(c);
}

static must_check int open_end(struct ev_command *c, struct end *e, bool ours_reads, int *ret_child)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    e->fd = fds[ours_reads ? 0 : 1];
    *ret_child = fds[ours_reads ? 1 : 0];
    int r = fs_set_nonblock(e->fd);
    if (r < 0)
        return r;
    return ev_io_new(c->loop, e->fd, ours_reads ? EV_IO_IN : EV_IO_OUT,
                     ours_reads ? on_output : on_input, e, &e->io);
}

int ev_command_run(struct ev_loop *loop, const char *const *argv, const char *input,
                   size_t input_len, size_t max, uint64_t timeout_ms, ev_command_fn *done,
                   void *arg, struct ev_command **ret_command, struct qvd_error *err)
{
    _cleanup_(close_p) int in = -EBADF, out = -EBADF, errors = -EBADF;
    struct ev_command *c = calloc(1, sizeof *c);

    if (!c)
        return qvd_error_errno(err, ENOMEM, "cannot run %s", argv[0]);
    *c = (struct ev_command){.loop = loop, .max = max, .done = done, .arg = arg};
    c->in = (struct end){.command = c, .fd = -EBADF};
    c->out = c->errors = c->in;
    ev_deferred_init(&c->finish, finish, c);
    int r = open_end(c, &c->in, false, &in);
    if (r == 0)
        r = open_end(c, &c->out, true, &out);
    if (r == 0)
        r = open_end(c, &c->errors, true, &errors);
    if (r == 0)
        r = ev_timer_new(loop, on_timeout, c, &c->timer);
    if (r == 0)
        r = buf_append(&c->in.buf, input, input ? input_len : 0);
    if (r < 0) {
        command_free(c);
        return qvd_error_errno(err, r, "cannot run %s", argv[0]);
    }
    struct ev_child_fd fds[] = {
        {in,     0},
        {out,    1},
        {errors, 2}
    };
    struct ev_child_spec spec = {.path = argv[0],
                                 .argv = argv,
                                 .fds = fds,
                                 .n_fds = ARRAY_SIZE(fds),
                                 .death_signal = SIGKILL,
                                 .new_session = true};
    r = ev_child_spawn(loop, &spec, on_gone, c, &c->child, err);
    if (r < 0) {
        command_free(c);
        return r;
    }
    ev_timer_arm(c->timer, timeout_ms);
    if (ret_command)
        *ret_command = c;
    return 0;
}

struct ev_command *ev_command_cancel(struct ev_command *c)
{
    if (c) {
        kill_group(c);
        command_free(c);
    }
    return NULL;
}
