// SPDX-License-Identifier: GPL-3.0-or-later
/* What crosses between a VM and its node, both ways, and the lists that clients read. The first
 * byte chooses the parser; what is taken must come out the same when it is written and read again.
 */
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "vma/agent.h"
#include "vma/environ.h"
#include "vma/msg.h"
#include "vma/nx.h"
#include "wire/l7r.h"
#include "wire/vma.h"

static const uint8_t secret[WIRE_VMA_SECRET_LEN];
static const char nonce[] = "00112233445566778899aabbccddeeff";

static void must(bool good)
{
    if (!good)
        abort();
}

static void try_answer(const char *s, size_t len)
{
    struct wire_vma_answer a, again;
    const char *body = memchr(s, '\n', len);

    /* A line before the body is its QVD-Auth. */
    if (body) {
        (void)!wire_vma_check_answer(secret, 200, nonce, s, body - s, body + 1, s + len - body - 1);
        len -= body + 1 - s;
        s = body + 1;
    }
    if (wire_vma_answer_parse(s, len, &a) < 0)
        return;
    must(utf8_valid(a.error, strlen(a.error)));
    for (const char *c = a.error; *c; c++)
        must((unsigned char)*c >= 0x20 && *c != 0x7f);
    _cleanup_(free_p) char *text = wire_vma_answer_format(&a);
    must(text && wire_vma_answer_parse(text, strlen(text), &again) == 0);
    must(again.state == a.state && strcmp(again.error, a.error) == 0);
}

static void try_params(const char *s, size_t len)
{
    struct wire_params *p = wire_params_new(), *back = wire_params_new();
    struct buf packed;

    buf_init(&packed, 0);
    if (wire_params_set_json(p, s, len) == 0 && vma_params_pack(p, &packed) == 0) {
        must(vma_params_unpack(packed.data, packed.len, back) == 0);
        _cleanup_(free_p) char *one = wire_params_format(p), *two = wire_params_format(back);
        must(one && two && strcmp(one, two) == 0);
    }
    buf_done(&packed);
    wire_params_free(p);
    wire_params_free(back);
}

static void try_request(const char *s, size_t len)
{
    char found[WIRE_VMA_NONCE_LEN + 1];
    const char *body = memchr(s, '\n', len);
    uint64_t serial;

    if (!body)
        body = s + len;
    size_t rest = s + len - body - (body < s + len);
    if (wire_vma_check_request(secret, "ping", s, body - s, s + len - rest, rest, &serial, found) ==
        0)
        must(strlen(found) == WIRE_VMA_NONCE_LEN);
    try_params(s + len - rest, rest);
}

static void try_packed(const char *s, size_t len)
{
    struct wire_params *p = wire_params_new();
    struct buf packed;

    buf_init(&packed, 0);
    if (vma_params_unpack(s, len, p) == 0)
        must(vma_params_pack(p, &packed) <= 0 && packed.len <= len);
    buf_done(&packed);
    wire_params_free(p);
}

static void try_list(const char *s, size_t len)
{
    struct wire_vm *vms = NULL, *again = NULL;
    size_t n, n_again = 0;

    if (wire_vm_list_parse(s, len, &vms, &n) < 0)
        return;
    _cleanup_(free_p) char *text = wire_vm_list_format(vms, n);
    must(text && wire_vm_list_parse(text, strlen(text), &again, &n_again) == 0);
    must(n == n_again && (n == 0 || memcmp(vms, again, n * sizeof *vms) == 0));
    free(vms);
    free(again);
}

static void try_token(const char *s, size_t len)
{
    struct wire_token t, again;

    if (wire_token_parse(s, len, &t) < 0)
        return;
    _cleanup_(free_p) char *text = wire_token_format(&t);
    must(text && wire_token_parse(text, strlen(text), &again) == 0);
    must(t.auth_params_id == again.auth_params_id && strcmp(t.token, again.token) == 0);
}

/* Texts that a person in the VM can choose, read by the monitor. */
static void try_lines(const char *s, size_t len)
{
    _cleanup_(free_p) char *copy = malloc(len + 1);
    const char *name, *value;
    struct agent_stream stream;

    must(copy);
    memcpy(copy, s, len);
    copy[len] = '\0';
    (void)nx_event_of_line(copy);
    (void)agent_port_parse(copy, 4100, &stream);
    (void)!environ_parse_line(copy, &name, &value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct {
        char letter;
        void (*fn)(const char *s, size_t len);
    } parsers[] = {
        {'A', try_answer },
        {'R', try_request},
        {'P', try_packed },
        {'L', try_list   },
        {'T', try_token  },
        {'N', try_lines  },
    };

    for (size_t i = 0; len > 0 && i < ARRAY_SIZE(parsers); i++)
        if (parsers[i].letter == data[0])
            parsers[i].fn((const char *)data + 1, len - 1);
    return 0;
}
