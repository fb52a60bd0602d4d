// SPDX-License-Identifier: GPL-3.0-or-later

/* Build tool: prints the template of a settings file ("node.conf", "vma.conf", "client.conf",
 * "qa.conf"). */

#include <stdio.h>
#include <string.h>

#include "conf/conf.h"

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

    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        if (argc == 2 && strcmp(argv[1], files[i].name) == 0) {
            conf_print_template(files[i].file, files[i].name, stdout);
            return fflush(stdout) == 0 ? 0 : 1;
        }
    fprintf(stderr, "usage: %s node.conf|vma.conf|client.conf|qa.conf\n", argv[0]);
    return 2;
}
