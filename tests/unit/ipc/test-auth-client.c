// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "ipc/auth-client.h"
#include "ipc/channel.h"

/* A scripted authd at the other end of the channel. */
struct fake {
    struct ev_loop *loop;
    struct ipc_channel *channel;
    struct auth_client *client;
    uint64_t asked[4];
    int n_asked;
    int answers, busy;
    enum auth_status last;
    char text[64];
};

static int fake_verify(void *owner, const void *msg, int *fd)
{
    struct fake *f = owner;
    const struct auth_verify_user *q = msg;

    assert_string_equal(q->login, "ann@lab");
    assert_string_equal(q->password, "secret");
    f->asked[f->n_asked++ % 4] = q->id;
    return 0;
}

static int fake_hash(void *owner, const void *msg, int *fd)
{
    struct fake *f = owner;

    f->asked[f->n_asked++ % 4] = ((const struct auth_hash *)msg)->id;
    return 0;
}

static const struct ipc_handler fake_handlers[] = {
    {&auth_verify_user_msg, ~0u, fake_verify},
    {&auth_hash_msg,        ~0u, fake_hash  },
};

static void fake_closed(void *owner, int reason)
{
}

static void attach(struct fake *f)
{
    int fds[2];

    f->channel = ipc_channel_free(f->channel);
    assert_int_equal(ipc_pair(fds), 0);
    assert_int_equal(ipc_channel_new(f->loop, fds[0], fake_handlers, ARRAY_SIZE(fake_handlers),
                                     fake_closed, f, &f->channel),
                     0);
    assert_int_equal(auth_client_attach(f->client, fds[1]), 0);
}

static int setup(void **state)
{
    struct fake *f = calloc(1, sizeof *f);

    assert_int_equal(ev_loop_new(&f->loop), 0);
    assert_int_equal(auth_client_new(f->loop, &f->client), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fake *f = *state;

    auth_client_free(f->client);
    ipc_channel_free(f->channel);
    ev_loop_free(f->loop);
    free(f);
    return 0;
}

static void on_answer(void *arg, const struct auth_answer *a)
{
    struct fake *f = arg;

    f->answers++;
    f->busy += a->status == AUTH_BUSY;
    f->last = a->status;
    if (a->status == AUTH_OK)
        snprintf(f->text, sizeof f->text, "%s", a->user.login ? a->user.login : a->hashed.hash);
}

static void turn_until(struct fake *f, const int *count, int n)
{
    for (int i = 0; *count < n && i < 1000; i++)
        ev_loop_turn(f->loop, true);
    assert_int_equal(*count, n);
}

static uint64_t ask_user(struct fake *f)
{
    return auth_client_verify_user(
        f->client,
        (struct auth_verify_user){.login = "ann@lab", .password = "secret", .source = "192.0.2.1"},
        on_answer, f);
}

static void without_authd_the_answer_is_unavailable(void **state)
{
    struct fake *f = *state;

    assert_int_not_equal(ask_user(f), 0);
    assert_int_equal(f->answers, 0); /* never inside the call */
    turn_until(f, &f->answers, 1);
    assert_int_equal(f->last, AUTH_UNAVAILABLE);
}

static void answers_find_their_questions_in_any_order(void **state)
{
    struct fake *f = *state;

    attach(f);
    assert_int_not_equal(ask_user(f), 0);
    assert_int_not_equal(
        auth_client_hash(f->client, (struct auth_hash){.password = "x"}, on_answer, f), 0);
    turn_until(f, &f->n_asked, 2);
    struct auth_hashed h = {.id = f->asked[1], .status = AUTH_OK, .hash = "$y$abc"};
    assert_int_equal(ipc_send(f->channel, &auth_hashed_msg, &h, -EBADF), 0);
    turn_until(f, &f->answers, 1);
    assert_string_equal(f->text, "$y$abc");
    struct auth_user u = {.id = f->asked[0], .status = AUTH_OK, .user_id = 4, .login = "ann"};
    assert_int_equal(ipc_send(f->channel, &auth_user_msg, &u, -EBADF), 0);
    turn_until(f, &f->answers, 2);
    assert_string_equal(f->text, "ann");
}

static void a_wrong_kind_of_answer_closes_the_channel(void **state)
{
    struct fake *f = *state;

    attach(f);
    assert_int_not_equal(ask_user(f), 0);
    turn_until(f, &f->n_asked, 1);
    struct auth_hashed h = {.id = f->asked[0], .status = AUTH_OK, .hash = "$y$abc"};
    assert_int_equal(ipc_send(f->channel, &auth_hashed_msg, &h, -EBADF), 0);
    turn_until(f, &f->answers, 1);
    assert_int_equal(f->last, AUTH_UNAVAILABLE);
    assert_false(auth_client_attached(f->client));
}

static void a_dead_authd_leaves_no_question_open(void **state)
{
    struct fake *f = *state;

    attach(f);
    for (int i = 0; i < 3; i++)
        assert_int_not_equal(ask_user(f), 0);
    turn_until(f, &f->n_asked, 3);
    f->channel = ipc_channel_free(f->channel);
    turn_until(f, &f->answers, 3);
    assert_int_equal(f->last, AUTH_UNAVAILABLE);
    attach(f); /* the next authd answers again */
    assert_int_not_equal(ask_user(f), 0);
    turn_until(f, &f->n_asked, 4);
    struct auth_user u = {.id = f->asked[3], .status = AUTH_DENIED};
    assert_int_equal(ipc_send(f->channel, &auth_user_msg, &u, -EBADF), 0);
    turn_until(f, &f->answers, 4);
    assert_int_equal(f->last, AUTH_DENIED);
}

static void a_cancelled_question_is_not_answered(void **state)
{
    struct fake *f = *state;

    attach(f);
    uint64_t id = ask_user(f);
    turn_until(f, &f->n_asked, 1);
    auth_client_cancel(f->client, id);
    struct auth_user u = {.id = f->asked[0], .status = AUTH_OK};
    assert_int_equal(ipc_send(f->channel, &auth_user_msg, &u, -EBADF), 0);
    assert_int_not_equal(ask_user(f), 0);
    turn_until(f, &f->n_asked, 2);
    u.id = f->asked[1];
    assert_int_equal(ipc_send(f->channel, &auth_user_msg, &u, -EBADF), 0);
    turn_until(f, &f->answers, 1);
    auth_client_cancel(f->client, 999);
}

static void the_thousand_and_first_is_told_busy(void **state)
{
    struct fake *f = *state;

    for (int i = 0; i < 1000; i++)
        assert_int_not_equal(ask_user(f), 0);
    assert_int_not_equal(ask_user(f), 0);
    turn_until(f, &f->answers, 1001);
    assert_int_equal(f->busy, 1);
    static char longer[2000];
    memset(longer, 'x', sizeof longer - 1);
    attach(f);
    assert_int_equal(
        auth_client_hash(f->client, (struct auth_hash){.password = longer}, on_answer, f), 0);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(without_authd_the_answer_is_unavailable),   T(answers_find_their_questions_in_any_order),
        T(a_wrong_kind_of_answer_closes_the_channel), T(a_dead_authd_leaves_no_question_open),
        T(a_cancelled_question_is_not_answered),      T(the_thousand_and_first_is_told_busy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
