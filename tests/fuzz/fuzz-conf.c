// SPDX-License-Identifier: GPL-3.0-or-later

/* The reader of settings files (node.conf, vma.conf, client.conf, qa.conf): whatever it takes, a
 * dump of it can be made, the values are within their bounds, and it can be replaced by nothing. */

#include <stdio.h>
#include <stdlib.h>

#include "conf/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void keep(void *arg, const char *text)
{
    *(size_t *)arg += text[0] != 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t told = 0, n, len;
    struct conf *c = conf_new(keep, &told);
    const struct conf_key *keys = conf_keys(&n);
    struct qvd_error err;
    char *text = NULL;
    FILE *out;

    if (!c)
        abort();
    if (conf_load_text(c, "fuzz.conf", (const char *)data, size, &err) == 0) {
        for (size_t i = 0; i < n; i++) {
            if (keys[i].type != CONF_INT && keys[i].type != CONF_DURATION)
                continue;
            if (keys[i].def &&
                (conf_int(c, keys[i].key) < keys[i].min || conf_int(c, keys[i].key) > keys[i].max))
                abort();
        }
        out = open_memstream(&text, &len);
        if (!out)
            abort();
        conf_dump(c, CONF_IN_NODE | CONF_IN_VMA | CONF_IN_CLIENT | CONF_IN_QA, out);
        fclose(out);
        free(text);
    } else if (!err.text[0]) {
        abort(); /* a refusal without a reason */
    }
    if (conf_load_text(c, "next.conf", "nodename = n\n", 13, &err) < 0)
        abort();
    conf_free(c);
    return 0;
}
