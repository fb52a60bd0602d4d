// SPDX-License-Identifier: GPL-3.0-or-later
/* docs/nx-states.md, from the table. Run by "meson compile nx-docs"; not installed. */
#include "vma/nx.h"

int main(void)
{
    puts(
        "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->\n# States of nxagent\n\n"
        "Printed from the table in `src/vma/nx.c`: do not edit, run `meson compile nx-docs`. What\n"
        "is not here changes nothing. Events named by a log line of nxagent come from its output;\n"
        "\"suspended by itself\" is its line \"Session suspended\" after its stream broke while a\n"
        "HUP of ours was under way, which then may wake it up again: HUP toggles.\n");
    nx_print_table(stdout);
    return ferror(stdout) || fflush(stdout) ? 1 : 0;
}
