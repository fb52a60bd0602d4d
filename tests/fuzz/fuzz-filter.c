// SPDX-License-Identifier: GPL-3.0-or-later

/* The filter language of lists: whatever is taken becomes a condition whose values are all
 * parameters, as many as it says; whatever is refused has a reason. */
#include <stdlib.h>
#include <string.h>

#include "store/admin-internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct admin_resource *r, const struct filter *f)
{
    struct qvd_error err = {0};
    struct sql *s = sql_new();
    char last[16];

    if (!s)
        abort();
    enum admin_status st = sql_filter(s, r, f, &err);
    if (st != ADMIN_OK && !err.text[0])
        abort(); /* a refusal without a reason */
    if (st == ADMIN_OK && s->failed == 0) {
        const char *text = buf_cstr(&s->text);
        if (!text)
            abort();
        snprintf(last, sizeof last, "$%zu", s->n);
        if (s->n && !strstr(text, last))
            abort();
        for (const char *c = text; *c; c++) /* nothing of the input is in the statement */
            if ((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e || *c == ';')
                abort();
    }
    sql_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qvd_error err = {0};
    struct filter *f = NULL;
    char *text = malloc(size + 1);

    if (!text)
        abort();
    memcpy(text, data, size);
    text[size] = '\0';
    if (filter_parse(text, &f, &err) < 0 && !err.text[0])
        abort();
    for (size_t i = 0; f && i < admin_n_resources; i++)
        check(admin_resources[i], f);
    filter_free(f);
    free(text);
    return 0;
}
