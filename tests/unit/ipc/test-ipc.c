// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "ipc/auth-msg.h"
#include "ipc/channel.h"
#include "ipc/rpc-msg.h"

static const struct ipc_message *const all[] = {
    &auth_verify_user_msg, &auth_verify_token_msg, &auth_user_msg,  &auth_make_token_msg,
    &auth_token_msg,       &auth_verify_admin_msg, &auth_admin_msg, &auth_hash_msg,
    &auth_hashed_msg,      &rpc_call_msg,          &rpc_result_msg,
};

static void types_are_unique(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        for (size_t j = 0; j < i; j++)
            assert_int_not_equal(all[i]->type, all[j]->type);
}

static void message_survives_the_wire(void **state)
{
    struct rpc_call call =
                        {
                            .id = 7,
                            .function = "x_start",
                            .serial = UINT64_MAX,
                            .timeout_ms = 3660000,
                            .secret = {"0123456789abcdef0123456789abcdef", 32},
                            .body = "{}"
    },
                    back;
    struct buf b;

    buf_init(&b, 0);
    assert_int_equal(ipc_encode(&rpc_call_msg, &call, &b), 0);
    assert_int_equal(ipc_decode(&rpc_call_msg, b.data, b.len, &back), 0);
    assert_true(back.id == 7 && back.serial == UINT64_MAX && back.timeout_ms == 3660000);
    assert_string_equal(back.function, "x_start");
    assert_string_equal(back.body, "{}");
    assert_int_equal(back.secret.len, 32);
    assert_memory_equal(back.secret.data, call.secret.data, 32);
    buf_done(&b);
}

/* Every cut, every trailing byte and every field one over its limit is refused, at both ends. */
static void nothing_but_the_exact_form_is_taken(void **state)
{
    struct rpc_call call = {.function = "ping", .body = "{}"}, back;
    struct buf b;

    buf_init(&b, 0);
    assert_int_equal(ipc_encode(&rpc_call_msg, &call, &b), 0);
    for (size_t len = 0; len < b.len; len++)
        assert_int_equal(ipc_decode(&rpc_call_msg, b.data, len, &back), -EBADMSG);
    assert_int_equal(buf_append(&b, "", 1), 0);
    assert_int_equal(ipc_decode(&rpc_call_msg, b.data, b.len, &back), -EBADMSG);
    assert_int_equal(ipc_decode(&rpc_result_msg, b.data, b.len - 1, &back), -EBADMSG);
    b.data[0] ^= 1; /* another version */
    assert_int_equal(ipc_decode(&rpc_call_msg, b.data, b.len - 1, &back), -EBADMSG);
    buf_done(&b);
    call.timeout_ms = 3660001;
    assert_int_equal(ipc_encode(&rpc_call_msg, &call, &b), -EMSGSIZE);
    buf_done(&b);
    call.timeout_ms = 1;
    call.function = "123456789012345678901234567890123";
    assert_int_equal(ipc_encode(&rpc_call_msg, &call, &b), -EMSGSIZE);
    buf_done(&b);
}

struct end {
    struct ipc_channel *channel;
    int got, closed, reason;
    uint64_t last_id;
    char byte;
};

static int on_result(void *owner, const void *msg, int *fd)
{
    struct end *e = owner;

    e->got++;
    e->last_id = ((const struct rpc_result *)msg)->id;
    return 0;
}

static int on_call(void *owner, const void *msg, int *fd)
{
    struct end *e = owner;

    e->got++;
    return read(*fd, &e->byte, 1) == 1 ? 0 : -EIO;
}

static void on_closed(void *owner, int reason)
{
    struct end *e = owner;

    e->closed++;
    e->reason = reason;
}

static const struct ipc_handler handlers[] = {
    {&rpc_result_msg, ~0u,     on_result},
    {&rpc_call_msg,   1u << 0, on_call  }, /* in state 0 only */
};

static int make_ends(struct ev_loop **ret_loop, struct end *a, struct end *b)
{
    int fds[2];

    *a = *b = (struct end){0};
    if (ev_loop_new(ret_loop) < 0 || ipc_pair(fds) < 0)
        return -1;
    return ipc_channel_new(*ret_loop, fds[0], handlers, 2, on_closed, a, &a->channel) ||
           ipc_channel_new(*ret_loop, fds[1], handlers, 2, on_closed, b, &b->channel);
}

static void drop_ends(struct ev_loop *loop, struct end *a, struct end *b)
{
    ipc_channel_free(a->channel);
    ipc_channel_free(b->channel);
    ev_loop_free(loop);
}

static void queue_is_bounded_and_keeps_the_order(void **state)
{
    struct ev_loop *loop;
    struct end a, b;
    char text[500] = "";
    int sent = 0;

    memset(text, 'x', sizeof text - 1);
    assert_int_equal(make_ends(&loop, &a, &b), 0);
    for (;; sent++) {
        struct rpc_result result = {.id = sent, .text = text};
        int r = ipc_send(a.channel, &rpc_result_msg, &result, -EBADF);
        if (r == -ENOBUFS)
            break;
        assert_int_equal(r, 0);
        assert_true(sent < 100000);
    }
    assert_int_equal(ipc_channel_queued(a.channel), 256);
    for (int i = 0; i < 1000 && b.got < sent; i++)
        ev_loop_turn(loop, false);
    assert_int_equal(b.got, sent);
    assert_int_equal(b.last_id, sent - 1);
    assert_int_equal(b.closed, 0);
    drop_ends(loop, &a, &b);
}

static void descriptor_travels_and_state_is_kept(void **state)
{
    struct ev_loop *loop;
    struct end a, b;
    int fds[2];
    struct rpc_call call = {.function = "ping", .body = "{}"};

    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "!", 1), 1);
    assert_int_equal(make_ends(&loop, &a, &b), 0);
    assert_int_equal(ipc_send(a.channel, &rpc_call_msg, &call, -EBADF), -EINVAL);
    assert_int_equal(ipc_send(a.channel, &rpc_call_msg, &call, fds[0]), 0);
    ev_loop_turn(loop, true);
    assert_int_equal(b.got, 1);
    assert_int_equal(b.byte, '!');
    ipc_channel_set_state(b.channel, 1); /* calls are no more allowed: fatal */
    assert_int_equal(ipc_send(a.channel, &rpc_call_msg, &call, fds[0]), 0);
    ev_loop_turn(loop, true);
    assert_int_equal(b.got, 1);
    assert_int_equal(b.closed, 1);
    assert_int_equal(b.reason, -EBADMSG);
    assert_int_equal(ipc_send(b.channel, &rpc_call_msg, &call, fds[0]), -EPIPE);
    close(fds[0]);
    close(fds[1]);
    drop_ends(loop, &a, &b);
}

static void end_of_the_peer_is_told_once(void **state)
{
    struct ev_loop *loop;
    struct end a, b;

    assert_int_equal(make_ends(&loop, &a, &b), 0);
    a.channel = ipc_channel_free(a.channel);
    ev_loop_turn(loop, true);
    ev_loop_turn(loop, false);
    assert_int_equal(b.closed, 1);
    assert_int_equal(b.reason, 0);
    drop_ends(loop, &a, &b);
}

static void garbage_closes_the_channel(void **state)
{
    struct ev_loop *loop;
    struct end b = {0};
    int fds[2];

    assert_int_equal(ev_loop_new(&loop), 0);
    assert_int_equal(ipc_pair(fds), 0);
    assert_int_equal(ipc_channel_new(loop, fds[1], handlers, 2, on_closed, &b, &b.channel), 0);
    assert_int_equal(send(fds[0], "garbage", 7, 0), 7);
    ev_loop_turn(loop, true);
    assert_int_equal(b.reason, -EBADMSG);
    ipc_channel_free(b.channel);
    close(fds[0]);
    ev_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_are_unique),
        cmocka_unit_test(message_survives_the_wire),
        cmocka_unit_test(nothing_but_the_exact_form_is_taken),
        cmocka_unit_test(queue_is_bounded_and_keeps_the_order),
        cmocka_unit_test(descriptor_travels_and_state_is_kept),
        cmocka_unit_test(end_of_the_peer_is_told_once),
        cmocka_unit_test(garbage_closes_the_channel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
