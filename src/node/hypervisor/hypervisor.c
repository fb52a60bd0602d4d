// SPDX-License-Identifier: GPL-3.0-or-later
#include "node/hypervisor/hypervisor.h"

#include <string.h>

static const struct hypervisor *const table[] = {&hypervisor_lxc, &hypervisor_nothing};

const struct hypervisor *hypervisor_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (strcmp(table[i]->name, name) == 0)
            return table[i];
    return NULL;
}
