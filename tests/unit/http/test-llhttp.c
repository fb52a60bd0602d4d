// SPDX-License-Identifier: GPL-3.0-or-later
/* Our head parser against llhttp (Node's): every request that ours takes, llhttp takes too, with
 * the same parts. Seeds of the fuzz target, each changed many times at random (always the same
 * way). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "http/head.h"
#include "llhttp-oracle.h"

#define CHANGES 4000

static void our_parts(const struct http_head *h, struct buf *out)
{
    assert_int_equal(buf_printf(out, "%s\n", h->target), 0);
    for (size_t i = 0; i < h->n_headers; i++)
        assert_int_equal(buf_printf(out, "%s\n%s\n", h->headers[i].name, h->headers[i].value), 0);
}

/* llhttp gives values with the blanks behind them. */
static void strip_blanks(struct buf *b)
{
    struct buf out;

    buf_init(&out, 0);
    for (size_t i = 0; i < b->len; i++) {
        size_t j = i;
        while (j < b->len && (b->data[j] == ' ' || b->data[j] == '\t'))
            j++;
        if (j > i && j < b->len && b->data[j] == '\n')
            i = j;
        assert_int_equal(buf_append(&out, b->data + i, 1), 0);
    }
    buf_done(b);
    *b = out;
}

static bool knows_method(const char *method)
{
    static const char *const known[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"};

    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if (strcmp(known[i], method) == 0)
            return true;
    return false;
}

/* Bare LF is ours to take for existing clients' sake (never mixed): llhttp is shown CRLF. */
static void with_crlf(const uint8_t *data, size_t len, struct buf *out)
{
    for (size_t i = 0; i < len; i++) {
        bool bare = data[i] == '\n' && (i == 0 || data[i - 1] != '\r');
        assert_int_equal(buf_append(out, bare ? "\r\n" : (const char *)data + i, bare ? 2 : 1), 0);
    }
}

/* 1: both took it; 0: ours did not. */
static int compare(const uint8_t *data, size_t len)
{
    struct http_head *h = NULL;
    struct oracle s;
    struct buf ours, crlf;
    ssize_t n = http_head_length(data, len, HTTP_HEAD_MAX);

    if (n <= 0 || http_head_parse(HTTP_REQUEST, data, n, &h, NULL) != 0)
        return 0;
    if (!knows_method(h->method)) { /* llhttp has a list of methods */
        http_head_free(h);
        return 0;
    }
    buf_init(&ours, 0);
    buf_init(&crlf, 0);
    with_crlf(data, n, &crlf);
    if (!oracle_takes(crlf.data, crlf.len, &s))
        fail_msg("llhttp refuses (%s) what we take: %.*s", s.reason, (int)n, data);
    our_parts(h, &ours);
    strip_blanks(&s.text);
    if (s.text.len != ours.len || memcmp(s.text.data, ours.data, ours.len) != 0)
        fail_msg("llhttp sees other parts:\n%.*s\nthan we:\n%.*s", (int)s.text.len, s.text.data,
                 (int)ours.len, ours.data);
    if (h->chunked != s.chunked)
        fail_msg("chunked or not: %.*s", (int)n, data);
    if (h->content_length > 0)
        assert_int_equal(h->content_length, s.content_length);
    buf_done(&s.text);
    buf_done(&ours);
    buf_done(&crlf);
    http_head_free(h);
    return 1;
}

static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Mostly what parsers stumble over. */
static void change(uint8_t *data, size_t *len, size_t size, uint32_t *state)
{
    static const uint8_t odd[] = "\r\n \t:;,\"/?=%+-01aAzZ{}()\x00\x7f\x80\xff\r\n\r\n";

    for (uint32_t n = 1 + next(state) % 3; n > 0 && *len > 0; n--) {
        size_t at = next(state) % *len;
        uint8_t byte = odd[next(state) % (sizeof odd - 1)];
        switch (next(state) % 3) {
        case 0:
            data[at] = byte;
            break;
        case 1:
            memmove(data + at, data + at + 1, *len - at - 1);
            (*len)--;
            break;
        default:
            if (*len == size)
                break;
            memmove(data + at + 1, data + at, *len - at);
            data[at] = byte;
            (*len)++;
            break;
        }
    }
}

static void test_no_wider_than_llhttp(void **state)
{
    DIR *dir = opendir(SEEDS);
    uint32_t random = 1;
    int taken = 0, tried = 0;

    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        uint8_t seed[20000], data[20100];
        char path[4096];
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", SEEDS, e->d_name);
        FILE *f = fopen(path, "rb");
        assert_non_null(f);
        size_t len = fread(seed, 1, sizeof seed, f);
        fclose(f);
        if (len < 2 || len > 2000) /* the first byte is the fuzz target's own */
            continue;
        for (int i = 0; i < CHANGES; i++) {
            size_t n = len - 1;
            memcpy(data, seed + 1, n);
            if (i > 0)
                change(data, &n, sizeof data, &random);
            taken += compare(data, n);
            tried++;
        }
    }
    closedir(dir);
    print_message("%d of %d taken by both\n", taken, tried);
    assert_true(taken > 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_wider_than_llhttp),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
