// SPDX-License-Identifier: GPL-3.0-or-later
#include "client/display.h"

#include <stddef.h>
#include <string.h>
#include <sys/un.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/list.h"
#include "base/str.h"
#include "client/client-internal.h"
#include "client/fit.h"
#include "client/keyboard.h"
#include "client/xauth.h"
#include "ev/resolve.h"
#include "stream/relay.h"

#define ANSWER_MS 5000
#define XAUTHORITY_MAX (1024 * 1024)
#define DOORS_MAX 8 /* connections of one nxproxy at once */

/* A connection of nxproxy on its way through the door. */
struct passage {
    struct list node;
    struct client_display *display;
    struct stream *from, *to;
    struct stream_relay *relay;
    struct buf setup;
};

struct client_display {
    struct ev_loop *loop;
    struct x_display x;
    client_display_fn *done;
    void *arg;
    char name[300];

    struct ev_resolve *resolver;
    struct addrinfo *addresses;
    struct stream *probe;
    struct ev_timer *timer;
    struct buf answer;
    bool with_cookie, let_in;
    struct keyboard_query query;
    char keyboard[KEYBOARD_MAX]; /* "": unknown */
    uint8_t cookie[X_COOKIE_LEN];

    unsigned width, height; /* wanted of the desktop's window; 0: any */
    struct fit fit;
    struct stream *watch; /* until it has that size */

    int door_fd;
    struct ev_io *door_io;
    char door_name[16];
    pid_t allowed;
    struct list passages;
    unsigned n_passages;
};

/* --- how to reach it -------------------------------------------------------------------------- */

/* The socket of a display in the kernel's own namespace of names, or in the file system. */
static socklen_t unix_address(unsigned number, bool abstract, struct sockaddr_un *addr)
{
    *addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(addr->sun_path + abstract, sizeof addr->sun_path - abstract,
                     "/tmp/.X11-unix/X%u", number);
    return offsetof(struct sockaddr_un, sun_path) + abstract + n;
}

static must_check int dial(struct client_display *d, const struct stream_handlers *handlers,
                           void *owner, struct stream **ret_stream)
{
    struct sockaddr_un addr;
    struct stream_target target = {.limit_ms = ANSWER_MS};

    if (d->addresses) {
        target.addr = d->addresses->ai_addr;
        target.addr_len = d->addresses->ai_addrlen;
        return stream_connect(d->loop, &target, handlers, owner, ret_stream);
    }
    /* Whichever is there: a bare try costs nothing. */
    for (int abstract = 1; abstract >= 0; abstract--) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            return -errno;
        socklen_t len = unix_address(d->x.number, abstract, &addr);
        if (connect(fd, (struct sockaddr *)&addr, len) == 0)
            return stream_new(d->loop, fd, NULL, 0, handlers, owner, ret_stream);
        int r = -errno;
        close(fd);
        if (!abstract)
            return r;
    }
    return -ECONNREFUSED;
}

/* --- the door -----------------------------------------------------------------------------------
 */

static void passage_free(struct passage *p)
{
    list_remove(&p->node);
    p->display->n_passages--;
    stream_free(p->from);
    stream_free(p->to);
    stream_relay_free(p->relay);
    buf_done(&p->setup);
    free(p);
}

static void on_relay_done(void *owner, const struct stream_relay_stats *stats,
                          const struct qvd_error *why)
{
    passage_free(owner);
}

static void on_passage_closed(void *owner, const struct qvd_error *why)
{
    passage_free(owner);
}

static void on_passage_eof(void *owner)
{
    passage_free(owner);
}

static const struct stream_handlers far_handlers = {.closed = on_passage_closed};

/* The first message is there: on with the cookie in it. */
static void pass(struct passage *p, size_t len)
{
    struct client_display *d = p->display;
    uint8_t setup[X_SETUP_MAX];
    size_t n = x_setup_make(p->setup.data[0], d->cookie, setup);
    int r = dial(d, &far_handlers, p, &p->to);

    if (r >= 0)
        r = stream_write(p->to, setup, n);
    stream_set_reading(p->from, false);
    if (r >= 0)
        r = stream_unread(p->from, p->setup.data + len, p->setup.len - len);
    if (r >= 0)
        r = stream_relay_start(d->loop, TAKE_PTR(p->from), TAKE_PTR(p->to), ANSWER_MS,
                               on_relay_done, p, &p->relay);
    explicit_bzero(setup, sizeof setup);
    if (r < 0)
        passage_free(p);
}

static void on_setup(void *owner, const uint8_t *data, size_t len)
{
    struct passage *p = owner;
    ssize_t n = buf_append(&p->setup, data, len);

    if (n >= 0)
        n = x_setup_length(p->setup.data, p->setup.len);
    if (n < 0)
        passage_free(p);
    else if (n > 0)
        pass(p, n);
}

static const struct stream_handlers near_handlers = {
    .data = on_setup, .eof = on_passage_eof, .closed = on_passage_closed};

static void on_door(void *arg, unsigned events)
{
    struct client_display *d = arg;
    struct ucred peer = {0};
    socklen_t len = sizeof peer;
    int fd = accept4(d->door_fd, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0)
        return;
    struct passage *p = calloc(1, sizeof *p);
    if (!p || d->n_passages >= DOORS_MAX ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.uid != geteuid() ||
        peer.pid != d->allowed) {
        close(fd);
        free(p);
        return;
    }
    p->display = d;
    buf_init(&p->setup, 64 * 1024);
    list_init(&p->node);
    list_append(&d->passages, &p->node);
    d->n_passages++;
    if (stream_new(d->loop, fd, NULL, 0, &near_handlers, p, &p->from) < 0)
        passage_free(p);
}

/* Any free number far from those of X servers; the name exists while the socket does. */
static must_check int open_door(struct client_display *d)
{
    struct sockaddr_un addr;
    uint16_t random;

    d->door_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (d->door_fd < 0)
        return -errno;
    for (int tries = 0; tries < 50; tries++) {
        int r = random_bytes(&random, sizeof random);
        if (r < 0)
            return r;
        unsigned number = 20000 + random % 20000;
        if (bind(d->door_fd, (struct sockaddr *)&addr, unix_address(number, true, &addr)) < 0)
            continue;
        if (listen(d->door_fd, DOORS_MAX) < 0)
            return -errno;
        snprintf(d->door_name, sizeof d->door_name, ":%u", number);
        return ev_io_new(d->loop, d->door_fd, EV_IO_IN, on_door, d, &d->door_io);
    }
    return -EADDRINUSE;
}

/* --- the desktop's window ----------------------------------------------------------------------
 */

static void end_watch(void *owner)
{
    struct client_display *d = owner;

    d->watch = stream_free(d->watch);
    buf_done(&d->answer);
}

static void on_watch_closed(void *owner, const struct qvd_error *why)
{
    end_watch(owner);
}

static void on_watch(void *owner, const uint8_t *data, size_t len)
{
    struct client_display *d = owner;
    _cleanup_(buf_done_p) struct buf out = {0};
    int r = buf_append(&d->answer, data, len);

    if (r >= 0)
        do
            r = fit_step(&d->fit, &d->answer, &out);
        while (r == 1);
    if (r >= 0 && out.len > 0 && stream_write(d->watch, out.data, out.len) < 0)
        r = -EPIPE;
    if (r == 2) {
        d->watch = stream_free_flushed(d->watch, ANSWER_MS);
        buf_done(&d->answer);
    } else if (r < 0) {
        end_watch(d);
    }
}

static const struct stream_handlers watch_handlers = {
    .data = on_watch, .eof = end_watch, .closed = on_watch_closed};

/* The connection that has asked stays, to see the window. Without that it has another size: no
 * reason to do without it. */
static void watch_window(struct client_display *d)
{
    _cleanup_(buf_done_p) struct buf out = {0};

    d->fit = (struct fit){.root = d->query.root,
                          .width = d->width < d->query.width ? d->width : d->query.width,
                          .height = d->height < d->query.height ? d->height : d->query.height};
    d->watch = TAKE_PTR(d->probe);
    stream_set_handlers(d->watch, &watch_handlers, d);
    if (fit_begin(&d->fit, &out) < 0 || stream_write(d->watch, out.data, out.len) < 0)
        end_watch(d);
}

void client_display_fit(struct client_display *d, unsigned width, unsigned height)
{
    d->width = width;
    d->height = height;
}

/* --- may we come in? ----------------------------------------------------------------------------
 */

static void ask_server(struct client_display *d);

static void tell(struct client_display *d, const char *name, const char *why)
{
    client_display_fn *done = TAKE_PTR(d->done);

    buf_done(&d->answer);
    if (name && d->width && d->query.root)
        watch_window(d);
    d->probe = stream_free(d->probe);
    d->timer = ev_timer_free(d->timer);
    if (done)
        done(d->arg, name, why);
}

static void refuse(struct client_display *d, const char *why)
{
    char text[600];

    snprintf(text, sizeof text, "the X display %s cannot be used: %s; " DISPLAY_MEND, d->name, why);
    tell(d, NULL, text);
}

static bool load_cookie(struct client_display *d)
{
    const char *set = getenv("XAUTHORITY");
    _cleanup_(free_p) char *path = set && *set ? strdup(set) : client_home_path(".Xauthority");
    _cleanup_(free_p) char *file = NULL;
    char hostname[256] = "";
    size_t len;

    if (!path || gethostname(hostname, sizeof hostname - 1) < 0 ||
        fs_read(path, XAUTHORITY_MAX, &file, &len) < 0)
        return false;
    bool found = x_cookie_find((uint8_t *)file, len, &d->x, hostname, d->cookie);
    explicit_bzero(file, len);
    return found;
}

/* We are let in, and know the keyboard or never will. */
static void accept_display(struct client_display *d)
{
    int r = d->with_cookie ? open_door(d) : 0;

    if (r < 0)
        refuse(d, strerror(-r));
    else
        tell(d, d->with_cookie ? d->door_name : d->name, NULL);
}

static void ask_keyboard(struct client_display *d)
{
    _cleanup_(buf_done_p) struct buf out = {0};
    int r = keyboard_step(&d->query, &d->answer, &out, d->keyboard);

    if (r == 0 && out.len > 0)
        r = stream_write(d->probe, out.data, out.len);
    if (r != 0) /* a desktop without its keyboard is better than none */
        accept_display(d);
}

/* A failure's reason: its length is the second byte, it begins at the ninth. */
static void refuse_with_reason(struct client_display *d)
{
    char reason[256] = "it refuses us";
    const uint8_t *a = d->answer.data;

    if (a[0] == 0 && d->answer.len > 8 && a[1] > 0) {
        size_t n = d->answer.len - 8 < a[1] ? d->answer.len - 8 : a[1];
        memcpy(reason, a + 8, n);
        reason[n] = '\0';
        for (char *p = reason; *p; p++)
            if ((unsigned char)*p < ' ' || *p == 0x7f)
                *p = ' ';
    }
    refuse(d, str_trim(reason));
}

/* The server's answer begins: 1 success, 0 failed, 2 more authentication wanted. */
static void judge(struct client_display *d)
{
    if (d->answer.data[0] == 1) {
        d->let_in = true;
        ask_keyboard(d);
    } else if (!d->with_cookie && load_cookie(d)) {
        d->with_cookie = true;
        d->probe = stream_free(d->probe);
        buf_done(&d->answer);
        ask_server(d);
    } else {
        refuse_with_reason(d);
    }
}

static void on_answer(void *owner, const uint8_t *data, size_t len)
{
    struct client_display *d = owner;

    if (buf_append(&d->answer, data, len) < 0)
        refuse(d, "its answer is too long");
    else if (d->let_in)
        ask_keyboard(d);
    /* A failure with its whole reason, or anything else at its first byte. */
    else if (d->answer.data[0] != 0 ||
             (d->answer.len >= 8 && d->answer.len >= 8u + d->answer.data[1]))
        judge(d);
}

static void on_probe_eof(void *owner)
{
    struct client_display *d = owner;

    if (d->let_in)
        accept_display(d);
    else if (d->answer.len > 0)
        judge(d);
    else
        refuse(d, "it closed the connection");
}

static void on_probe_closed(void *owner, const struct qvd_error *why)
{
    struct client_display *d = owner;

    if (d->let_in)
        accept_display(d);
    else
        refuse(d, why->text);
}

static void on_timer(void *arg)
{
    struct client_display *d = arg;

    if (d->let_in)
        accept_display(d);
    else
        refuse(d, "it does not answer");
}

static const struct stream_handlers probe_handlers = {
    .data = on_answer, .eof = on_probe_eof, .closed = on_probe_closed};

static void ask_server(struct client_display *d)
{
    uint8_t setup[X_SETUP_MAX];
    size_t n = x_setup_make('l', d->with_cookie ? d->cookie : NULL, setup);
    int r = dial(d, &probe_handlers, d, &d->probe);

    if (r >= 0)
        r = stream_write(d->probe, setup, n);
    explicit_bzero(setup, sizeof setup);
    if (r < 0)
        refuse(d, strerror(-r));
}

static void on_resolved(void *arg, struct addrinfo *list, const char *why)
{
    struct client_display *d = arg;

    d->resolver = ev_resolve_free(d->resolver);
    d->addresses = list;
    if (!list)
        refuse(d, why ? why : "no address");
    else
        ask_server(d);
}

/* By a name or at once; both answer later. */
static must_check int begin(struct client_display *d)
{
    char port[16];

    snprintf(port, sizeof port, "%u", 6000 + d->x.number);
    return ev_resolve_new(d->loop, d->x.host, port, on_resolved, d, &d->resolver);
}

static must_check int begin_local(struct client_display *d)
{
    uint8_t setup[X_SETUP_MAX];
    int r = dial(d, &probe_handlers, d, &d->probe);

    if (r < 0)
        return r;
    return stream_write(d->probe, setup, x_setup_make('l', NULL, setup));
}

int client_display_open(struct ev_loop *loop, const char *name, client_display_fn *done, void *arg,
                        struct client_display **ret_display)
{
    struct client_display *d = calloc(1, sizeof *d);

    if (!d)
        return -ENOMEM;
    *d = (struct client_display){.loop = loop, .done = done, .arg = arg, .door_fd = -EBADF};
    buf_init(&d->answer, 64 * 1024);
    list_init(&d->passages);
    int r = ev_timer_new(loop, on_timer, d, &d->timer);
    if (r >= 0)
        r = x_display_parse(name, &d->x);
    if (r >= 0)
        r = str_copy(d->name, sizeof d->name, name);
    if (r >= 0)
        r = d->x.host[0] ? begin(d) : begin_local(d);
    if (r < 0) {
        client_display_free(d);
        return r;
    }
    ev_timer_arm(d->timer, ANSWER_MS);
    *ret_display = d;
    return 0;
}

const char *client_display_keyboard(const struct client_display *d)
{
    return d->keyboard;
}

unsigned client_display_depth(const struct client_display *d)
{
    return d->query.depth;
}

unsigned client_display_monitors(const struct client_display *d)
{
    return d->query.monitors;
}

void client_display_allow(struct client_display *d, pid_t pid)
{
    d->allowed = pid;
}

struct client_display *client_display_free(struct client_display *d)
{
    if (d) {
        QVD_LIST_FOREACH (p, &d->passages, struct passage, node) {
            passage_free(p);
        }
        d->resolver = ev_resolve_free(d->resolver);
        if (d->addresses)
            freeaddrinfo(d->addresses);
        d->probe = stream_free(d->probe);
        d->watch = stream_free(d->watch);
        d->timer = ev_timer_free(d->timer);
        d->door_io = ev_io_free(d->door_io);
        fd_close(d->door_fd);
        buf_done(&d->answer);
        explicit_bzero(d->cookie, sizeof d->cookie);
        free(d);
    }
    return NULL;
}
