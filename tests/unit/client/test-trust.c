// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "client/client-internal.h"

#define A "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define B "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

struct fixture {
    char dir[64], file[96];
    struct qvdclient_loop *loop;
    struct qvdclient *c;
};

static const struct qvdclient_callbacks callbacks;

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    strcpy(f->dir, "/tmp/qvdtrust-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->file, sizeof f->file, "%s/below/accepted.json", f->dir);
    f->loop = qvdclient_loop_new();
    f->c = qvdclient_new(f->loop, &callbacks, NULL);
    assert_int_equal(qvdclient_set(f->c, QVDCLIENT_TRUST_FILE, f->file), 0);
    strcpy(f->c->host_port, "host:8443");
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    unlink(f->file);
    *strrchr(f->file, '/') = '\0';
    rmdir(f->file);
    rmdir(f->dir);
    qvdclient_free(f->c);
    qvdclient_loop_free(f->loop);
    free(f);
    return 0;
}

static struct client_cert cert(const char *fingerprint, size_t n, const int *faults)
{
    struct client_cert k = {.n_faults = n, .subject = "CN=x"};

    strcpy(k.fingerprint, fingerprint);
    for (size_t i = 0; i < n; i++)
        k.faults[i] = faults[i];
    return k;
}

static void test_one_fault_does_not_cover_another(void **state)
{
    struct fixture *f = *state;
    struct client_cert one = cert(A, 1, (int[]){18}), two = cert(A, 2, (int[]){10, 18}),
                       other = cert(A, 1, (int[]){10}), good = cert(A, 0, NULL);

    assert_int_equal(client_trust_check(f->c, &one), TRUST_NO);
    assert_int_equal(client_trust_add(f->c, &one), 0);
    assert_int_equal(client_trust_check(f->c, &one), TRUST_YES);
    assert_int_equal(client_trust_check(f->c, &good), TRUST_YES);
    assert_int_equal(client_trust_check(f->c, &two), TRUST_NO);
    assert_int_equal(client_trust_check(f->c, &other), TRUST_NO);
    assert_int_equal(client_trust_add(f->c, &two), 0);
    assert_int_equal(client_trust_check(f->c, &two), TRUST_YES);
}

static void test_the_file_has_the_reference_s_shape(void **state)
{
    struct fixture *f = *state;
    struct client_cert k = cert(A, 2, (int[]){10, 1001});
    struct stat st;

    assert_int_equal(client_trust_add(f->c, &k), 0);
    assert_int_equal(stat(f->file, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    /* client.md 2.5: keyed sha256$<fingerprint>; algo, fingerprint, description, errors. */
    json_t *all = json_load_file(f->file, 0, NULL), *entry = json_object_get(all, "sha256$" A);
    assert_string_equal(json_string_value(json_object_get(entry, "algo")), "sha256");
    assert_string_equal(json_string_value(json_object_get(entry, "fingerprint")), A);
    assert_string_equal(json_string_value(json_object_get(entry, "description")), "CN=x");
    json_t *errors = json_object_get(entry, "errors");
    assert_int_equal(json_array_size(errors), 2);
    assert_int_equal(json_integer_value(json_array_get(errors, 0)), 10);
    assert_int_equal(json_integer_value(json_array_get(errors, 1)), 1001);
    json_decref(all);
}

static void test_a_host_has_one_certificate(void **state)
{
    struct fixture *f = *state;
    struct client_cert a = cert(A, 1, (int[]){18}), b = cert(B, 1, (int[]){18});

    assert_int_equal(client_trust_add(f->c, &a), 0);
    assert_int_equal(client_trust_check(f->c, &b), TRUST_CHANGED);
    /* Another host may have the same certificate, and knows nothing of b. */
    strcpy(f->c->host_port, "second:8443");
    assert_int_equal(client_trust_check(f->c, &a), TRUST_NO);
    assert_int_equal(client_trust_add(f->c, &a), 0);
    strcpy(f->c->host_port, "HOST:8443");
    assert_int_equal(client_trust_check(f->c, &a), TRUST_YES);
    assert_int_equal(client_trust_add(f->c, &b), 0);
    assert_int_equal(client_trust_check(f->c, &a), TRUST_CHANGED);
    strcpy(f->c->host_port, "second:8443");
    assert_int_equal(client_trust_check(f->c, &a), TRUST_YES);
}

static void test_files_that_cannot_be_read_accept_nothing(void **state)
{
    static const char *const texts[] = {
        "",
        "[]",
        "{",
        "{\"sha256$" A "\": 7}",
        "{\"sha256$" A "\": {\"hosts\": \"host:8443\", \"errors\": [18]}}",
        "{\"sha256$" A "\": {\"hosts\": [7], \"errors\": [18]}}",
        "{\"sha256$" A "\": {\"hosts\": [\"host:8443\"], \"errors\": [\"18\"]}}",
        "{\"sha256$" A "\": {\"hosts\": [\"host:8443\"], \"errors\": {}}}",
    };
    struct fixture *f = *state;
    struct client_cert k = cert(A, 1, (int[]){18});

    assert_int_equal(client_trust_add(f->c, &k), 0);
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        assert_int_equal(fs_write_atomic(f->file, texts[i], strlen(texts[i]), 0600), 0);
        if (client_trust_check(f->c, &k) == TRUST_YES)
            fail_msg("accepted by: %s", texts[i]);
    }
    /* What cannot be read is made anew. */
    assert_int_equal(client_trust_add(f->c, &k), 0);
    assert_int_equal(client_trust_check(f->c, &k), TRUST_YES);
}

static void test_for_this_run_only(void **state)
{
    struct fixture *f = *state;
    struct client_cert k = cert(A, 1, (int[]){18}), more = cert(A, 2, (int[]){10, 18});

    f->c->accepted_now = k;
    assert_int_equal(client_trust_check(f->c, &k), TRUST_YES);
    assert_int_equal(client_trust_check(f->c, &more), TRUST_NO);
    f->c->accepted_now = (struct client_cert){0};
    assert_int_equal(qvdclient_set(f->c, QVDCLIENT_FINGERPRINT, A), 0);
    assert_int_equal(client_trust_check(f->c, &more), TRUST_YES);
}

static void test_fingerprints(void **state)
{
    char colons[200] = "", upper[65];

    for (int i = 0; i < 64; i += 2)
        snprintf(colons + strlen(colons), 4, "%s%.2s", i ? ":" : "", &A[i]);
    for (int i = 0; i < 65; i++)
        upper[i] = A[i] >= 'a' && A[i] <= 'f' ? A[i] - 32 : A[i];
    assert_true(client_fingerprint_equal(A, colons));
    assert_true(client_fingerprint_equal(upper, A));
    assert_false(client_fingerprint_equal(A, B));
    assert_false(client_fingerprint_equal("", ""));
    assert_false(client_fingerprint_equal("00", "00"));
    assert_false(client_fingerprint_equal(A "0", A));
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH(test_one_fault_does_not_cover_another),
        WITH(test_the_file_has_the_reference_s_shape),
        WITH(test_a_host_has_one_certificate),
        WITH(test_files_that_cannot_be_read_accept_nothing),
        WITH(test_for_this_run_only),
        cmocka_unit_test(test_fingerprints),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
