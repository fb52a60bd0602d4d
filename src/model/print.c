// SPDX-License-Identifier: GPL-3.0-or-later
/* docs/vm-states.md, from the tables. Run by "meson compile docs"; not installed. */
#include "model/node-life.h"
#include "model/vm-state.h"

int main(void)
{
    puts(
        "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->\n# States of a VM\n\n"
        "Printed from the table in `src/model/vm-state.c`: do not edit, run `meson compile docs`.\n"
        "Of rows for the same state and event the first whose condition holds is taken; what is\n"
        "not here changes nothing. When the time of the named setting is over, the row `limit` is "
        "taken.\n");
    vm_state_print(stdout);
    puts("\n## Steps of a node's daemon\n\n"
         "From the table in `src/model/node-life.c`.\n");
    life_print(stdout);
    return ferror(stdout) || fflush(stdout) ? 1 : 0;
}
