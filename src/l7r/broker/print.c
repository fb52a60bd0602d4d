// SPDX-License-Identifier: GPL-3.0-or-later
/* Prints docs/session-steps.md. */
#include "l7r/broker/table.h"

int main(void)
{
    session_print_table(stdout);
    return ferror(stdout) ? 1 : 0;
}
