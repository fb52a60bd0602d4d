// SPDX-License-Identifier: GPL-3.0-or-later

#include "store/nodes.h"

/* What VMs on their way to a node will need is not yet in what its beat told. They are counted in
 * one walk: a node's running VMs are many, and would be read for each node. */
const char store_nodes_sql[] =
    "SELECT h.id, hr.usable_ram, hr.free_ram, hr.free_cpu, hr.assigned, coalesce(s.memory, 0),"
    " coalesce(s.n, 0), h.name"
    " FROM hosts h JOIN host_runtimes hr ON hr.host_id = h.id"
    " LEFT JOIN (SELECT r.host_id, count(*) AS n, sum(o.memory) AS memory"
    "  FROM vm_runtimes r JOIN vms v ON v.id = r.vm_id JOIN osfs o ON o.id = v.osf_id"
    "  WHERE r.host_id IS NOT NULL AND r.vm_state IN ('stopped', 'starting_1', 'starting_2')"
    "  GROUP BY r.host_id) s ON s.host_id = h.id"
    " WHERE h.backend AND hr.state = 'running' AND NOT hr.blocked"
    " AND ($1::bigint IS NULL OR EXISTS (SELECT FROM vm_runtimes w WHERE w.vm_id = $1"
    "  AND w.vm_state = 'stopped' AND w.vm_cmd IS NULL AND w.host_id IS NULL))"
    " ORDER BY h.id";

size_t store_nodes_read(const struct db_result *r, double start_cpu, struct balance_node *nodes)
{
    size_t n = 0;

    for (int i = 0; i < db_rows(r) && n < STORE_NODES_MAX; i++)
        nodes[n++] = (struct balance_node){
            .id = db_int(r, i, 0),
            .usable_ram = db_real(r, i, 1),
            .free_ram = db_real(r, i, 2),
            .free_cpu = db_real(r, i, 3),
            .assigned = (unsigned)db_int(r, i, 4),
            .reserved_ram = db_real(r, i, 5),
            .reserved_cpu = start_cpu * (double)db_int(r, i, 6),
        };
    return n;
}

const char *store_nodes_name(const struct db_result *r, size_t row)
{
    return db_str(r, (int)row, 7);
}
