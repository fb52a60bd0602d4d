// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "ipc/l7r-msg.h"

static void types_are_unique_and_in_range(void **state)
{
    for (size_t i = 0; l7r_messages[i]; i++) {
        assert_in_range(l7r_messages[i]->type, 130, 159);
        for (size_t j = 0; j < i; j++)
            assert_int_not_equal(l7r_messages[i]->type, l7r_messages[j]->type);
    }
}

static void request_survives_the_wire(void **state)
{
    struct l7r_request q =
                           {
                               .conn = UINT64_MAX,
                               .kind = L7R_CONNECT,
                               .credentials = L7R_BASIC,
                               .login = "alice@example",
                               .secret = "p\xc3\xa4ss",
                               .source = "2001:db8::1",
                               .vm_id = 42,
                               .flaw = 426,
                               .flaw_text = "no",
                               .tls_ms = 12,
                               .params = {"a\0b\0", 4}
    },
                       back;
    struct buf b;

    buf_init(&b, 0);
    assert_int_equal(ipc_encode(&l7r_request_msg, &q, &b), 0);
    assert_int_equal(ipc_decode(&l7r_request_msg, b.data, b.len, &back), 0);
    assert_true(back.conn == UINT64_MAX && back.kind == L7R_CONNECT && back.vm_id == 42);
    assert_true(back.flaw == 426 && back.tls_ms == 12 && !back.store_auth);
    assert_string_equal(back.login, "alice@example");
    assert_string_equal(back.secret, "p\xc3\xa4ss");
    assert_string_equal(back.client, "");
    assert_int_equal(back.params.len, 4);
    assert_memory_equal(back.params.data, "a\0b\0", 4);
    for (size_t cut = 0; cut < b.len; cut++)
        assert_int_equal(ipc_decode(&l7r_request_msg, b.data, cut, &back), -EBADMSG);
    buf_done(&b);
}

static void fields_over_their_limit_are_not_sent(void **state)
{
    static char long_text[L7R_BODY_MAX + 1];
    struct l7r_answer a = {.status = 600};
    struct l7r_resync y = {
        .sessions = {long_text, L7R_RESYNC_MAX * 8 + 1}
    };
    struct buf b;

    buf_init(&b, 0);
    assert_int_equal(ipc_encode(&l7r_answer_msg, &a, &b), -EMSGSIZE);
    a = (struct l7r_answer){
        .status = 200, .body = {long_text, sizeof long_text}
    };
    assert_int_equal(ipc_encode(&l7r_answer_msg, &a, &b), -EMSGSIZE);
    a.body.len--;
    assert_int_equal(ipc_encode(&l7r_answer_msg, &a, &b), 0);
    y.sessions.data = long_text;
    assert_int_equal(ipc_encode(&l7r_resync_msg, &y, &b), -EMSGSIZE);
    buf_done(&b);
}

/* The longest request that a worker may send fits into one datagram. */
static void largest_request_fits(void **state)
{
    static char params[L7R_PARAMS_MAX];
    char login[513], secret[1025], file[1025], text[513], client[257];
    struct l7r_request q = {
        .login = login,
        .secret = secret,
        .file_name = file,
        .flaw_text = text,
        .client = client,
        .params = {params, sizeof params}
    };
    struct buf b;

    memset(login, 'l', 512), login[512] = 0;
    memset(secret, 's', 1024), secret[1024] = 0;
    memset(file, 'f', 1024), file[1024] = 0;
    memset(text, 't', 512), text[512] = 0;
    memset(client, 'c', 256), client[256] = 0;
    buf_init(&b, 0);
    assert_int_equal(ipc_encode(&l7r_request_msg, &q, &b), 0);
    assert_true(b.len <= IPC_MAX);
    buf_done(&b);
}

static void memory_files_are_sealed_and_bounded(void **state)
{
    const struct ipc_bytes parts[] = {
        {"cert", 4},
        {NULL,   0},
        {"key",  3}
    };
    _cleanup_(close_p) int fd = l7r_memory_new(parts, 3);
    _cleanup_(free_p) char *data = NULL;
    char *none = NULL;

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "x", 1, 0), -1);
    assert_int_equal(l7r_memory_read(fd, 7, 7, &data), 0);
    assert_string_equal(data, "certkey");
    assert_int_equal(l7r_memory_read(fd, 8, 100, &none), -EBADMSG);
    assert_int_equal(l7r_memory_read(fd, 7, 6, &none), -EFBIG);
    assert_null(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_are_unique_and_in_range),
        cmocka_unit_test(request_survives_the_wire),
        cmocka_unit_test(fields_over_their_limit_are_not_sent),
        cmocka_unit_test(largest_request_fits),
        cmocka_unit_test(memory_files_are_sealed_and_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
