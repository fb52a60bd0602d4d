// SPDX-License-Identifier: GPL-3.0-or-later
/* docs/vm-states.md, from the table. Run by "meson compile docs"; not installed. */
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
    return ferror(stdout) || fflush(stdout) ? 1 : 0;
}
