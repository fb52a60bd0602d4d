// SPDX-License-Identifier: GPL-3.0-or-later

/* Build tool: prints the template of a settings file ("node.conf", "vma.conf", "client.conf",
 * "qa.conf"), or with --manual HEAD the source of its manual page, HEAD first. */

#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "conf/conf.h"

static bool print_file(const char *path)
{
    _cleanup_(free_p) char *text = NULL;
    size_t len;

    if (fs_read(path, 1 << 20, &text, &len) < 0) {
        perror(path);
        return false;
    }
    return fwrite(text, 1, len, stdout) == len;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        unsigned file;
    } files[] = {
        {"node.conf",   CONF_IN_NODE  },
        {"vma.conf",    CONF_IN_VMA   },
        {"client.conf", CONF_IN_CLIENT},
        {"qa.conf",     CONF_IN_QA    },
    };

    bool manual = argc == 4 && strcmp(argv[2], "--manual") == 0;

    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        if (argc < 2 || (argc > 2 && !manual) || strcmp(argv[1], files[i].name) != 0)
            continue;
        if (!manual)
            conf_print_template(files[i].file, files[i].name, stdout);
        else if (!print_file(argv[3]))
            return 1;
        else
            conf_print_manual(files[i].file, stdout);
        return fflush(stdout) == 0 ? 0 : 1;
    }
    fprintf(stderr, "usage: %s node.conf|vma.conf|client.conf|qa.conf [--manual HEAD]\n", argv[0]);
    return 2;
}
