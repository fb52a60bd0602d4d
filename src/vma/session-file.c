// SPDX-License-Identifier: GPL-3.0-or-later
/* Names and values in turns, each ended by a NUL: those of the state, an empty name, those of the
 * session's parameters. Root reads it, so there is no JSON in it. */
#include "vma/session-file.h"

#include <string.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/str.h"
#include "vma/msg.h"

#define SIZE_MAX_BYTES (2 << 20)

static must_check int put_u64(struct wire_params *p, const char *name, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    return wire_params_set(p, name, text);
}

static must_check int put_user(struct wire_params *p, const struct user *u)
{
    char spec[USER_SPEC_MAX];
    int r = user_spec(u, "0", spec);

    if (r == 0)
        r = wire_params_set(p, "user.ids", spec);
    if (r == 0)
        r = wire_params_set(p, "user.name", u->name);
    return r < 0 ? r : wire_params_set(p, "user.home", u->home);
}

static must_check int put_all(struct wire_params *p, const struct session_saved *s)
{
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"hup_out",       s->hup_out            },
        {"stream_lost",   s->stream_lost        },
        {"depth",         s->depth              },
        {"agent.pid",     s->agent.pid          },
        {"agent.began",   s->agent.began        },
        {"session.pid",   s->agent.session_pid  },
        {"session.began", s->agent.session_began},
    };
    int r = wire_params_set(p, "state", nx_state_to_string(s->state));

    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(numbers); i++)
        r = put_u64(p, numbers[i].name, numbers[i].value);
    return r == 0 && s->user.uid ? put_user(p, &s->user) : r;
}

int session_file_write(const char *path, const struct session_saved *saved)
{
    _cleanup_(wire_params_free_p) struct wire_params *p = wire_params_new();
    _cleanup_(buf_done_p) struct buf text = {0}, params = {0};
    int r = p ? put_all(p, saved) : -ENOMEM;

    buf_init(&text, 0);
    buf_init(&params, 0);
    if (r == 0)
        r = vma_params_pack(p, &text);
    if (r == 0)
        r = vma_params_pack(saved->params, &params);
    if (r == 0)
        r = buf_append(&text, "", 1);
    if (r == 0)
        r = buf_append(&text, params.data, params.len);
    return r < 0 ? r : fs_write_atomic(path, text.data, text.len, 0600);
}

/* Where the empty name stands; NULL: nowhere. */
static const char *find_end(const char *text, const char *end)
{
    while (text < end && *text) {
        for (int i = 0; i < 2 && text; i++) {
            text = memchr(text, '\0', end - text);
            text = text ? text + 1 : NULL;
        }
        if (!text)
            return NULL;
    }
    return text < end ? text : NULL;
}

static must_check int get_u64(const struct wire_params *p, const char *name, uint64_t max,
                              uint64_t *ret_value)
{
    const char *text = wire_params_get(p, name);

    return text && str_to_u64(text, max, ret_value) == 0 ? 0 : -EBADMSG;
}

static must_check int get_user(const struct wire_params *p, struct user *u)
{
    const char *ids = wire_params_get(p, "user.ids"), *name = wire_params_get(p, "user.name"),
               *home = wire_params_get(p, "user.home");

    if (!ids) /* none is known yet */
        return 0;
    if (!name || !home || str_copy(u->name, sizeof u->name, name) < 0 ||
        str_copy(u->home, sizeof u->home, home) < 0)
        return -EBADMSG;
    return user_from_spec(ids, u) < 0 ? -EBADMSG : 0;
}

static must_check int get_all(const struct wire_params *p, struct session_saved *s)
{
    uint64_t pid = 0, session_pid = 0, hup = 0, lost = 0, depth = 0;
    const char *state = wire_params_get(p, "state");

    s->state = state ? nx_state_from_string(state) : NX_STATE_INVALID;
    if (s->state == NX_STATE_INVALID || get_u64(p, "hup_out", 1, &hup) < 0 ||
        get_u64(p, "stream_lost", 1, &lost) < 0 || get_u64(p, "depth", 255, &depth) < 0 ||
        get_u64(p, "agent.pid", 1 << 22, &pid) < 0 ||
        get_u64(p, "agent.began", UINT64_MAX, &s->agent.began) < 0 ||
        get_u64(p, "session.pid", 1 << 22, &session_pid) < 0 ||
        get_u64(p, "session.began", UINT64_MAX, &s->agent.session_began) < 0)
        return -EBADMSG;
    s->hup_out = hup;
    s->stream_lost = lost;
    s->depth = depth;
    s->agent.pid = pid;
    s->agent.session_pid = session_pid;
    return get_user(p, &s->user);
}

int session_file_read(const char *path, struct session_saved *ret_saved)
{
    _cleanup_(wire_params_free_p) struct wire_params *state = wire_params_new(),
                                                     *params = wire_params_new();
    _cleanup_(free_p) char *text = NULL;
    struct session_saved saved = {0};
    size_t len;

    if (!state || !params)
        return -ENOMEM;
    int r = fs_read(path, SIZE_MAX_BYTES, &text, &len);
    if (r < 0)
        return r;
    const char *end = find_end(text, text + len);
    if (!end || vma_params_unpack(text, end - text, state) < 0 ||
        vma_params_unpack(end + 1, text + len - (end + 1), params) < 0 ||
        get_all(state, &saved) < 0)
        return -EBADMSG;
    saved.params = TAKE_PTR(params);
    *ret_saved = saved;
    return 0;
}
