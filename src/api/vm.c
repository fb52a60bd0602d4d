// SPDX-License-Identifier: GPL-3.0-or-later
/* What is a VM's own: its address, orders to it. */
#include <string.h>

#include "api/api-internal.h"
#include "base/str.h"
#include "model/net.h"

/* The address that the administrator named must be one for VMs; without one the database gives the
 * lowest free one, under its lock. */
enum admin_status api_vm_address(struct api_request *q, struct db_param extra[3], bool *ret_extra,
                                 struct qvd_error *err)
{
    const char *start = conf_str(q->api->conf, "vm.network.ip.start");
    const char *mask = conf_str(q->api->conf, "vm.network.netmask");
    struct net_range range;
    char first[NET_IP4_STR];

    if (!*start || !*mask) {
        qvd_error_set(err, ADMIN_CONFLICT,
                      "VMs have no network yet: set vm.network.ip.start and vm.network.netmask "
                      "(qa config set vm.network.ip.start=... vm.network.netmask=...)");
        return ADMIN_CONFLICT;
    }
    if (net_range_init(start, mask, &range, err) < 0)
        return ADMIN_CONFLICT;
    for (size_t i = 0; i < q->n_values; i++) {
        uint32_t ip;
        if (!str_eq(q->values[i].field->column, "ip"))
            continue;
        if (net_ip4_parse(q->values[i].text, &ip) == 0 && net_range_is_vm(&range, ip))
            return ADMIN_OK;
        char last[NET_IP4_STR];
        qvd_error_set(err, ADMIN_INVALID, "ip = %s: VMs have the addresses %s to %s",
                      q->values[i].text, net_ip4_format(range.first, first),
                      net_ip4_format(range.last, last));
        return ADMIN_INVALID;
    }
    const char *kept = api_keep(q, strdup(net_ip4_format(range.first, first)));
    if (!kept) {
        qvd_error_set(err, ADMIN_AWAY, "out of memory");
        return ADMIN_AWAY;
    }
    extra[0] = DB_TEXT(kept);
    extra[1] = DB_INT(range.bits);
    extra[2] = (struct db_param){.kind = DB_KIND_END};
    *ret_extra = true;
    return ADMIN_OK;
}

void api_vm_start(struct api_request *q)
{
    struct api *api = q->api;
    struct qvd_error err;

    api->balance.plugin = balance_plugin(conf_str(api->conf, "l7r.loadbalancer.plugin"));
    if (!api->balance.plugin)
        api->balance.plugin = balance_plugin("default");
    api->balance.weights = (struct balance_weights){
        conf_real(api->conf, "l7r.loadbalancer.plugin.default.weight.ram"),
        conf_real(api->conf, "l7r.loadbalancer.plugin.default.weight.cpu"),
        conf_real(api->conf, "l7r.loadbalancer.plugin.default.weight.random"),
        conf_real(api->conf, "l7r.loadbalancer.plugin.default.start.cpu")};
    (void)api_began(
        q, store_admin_vm_start(api->db, &q->who, q->id, &api->balance, api_answer_done, q, &err),
        &err);
}

void api_vm_stop(struct api_request *q)
{
    struct qvd_error err;

    (void)api_began(q, store_admin_vm_stop(q->api->db, &q->who, q->id, api_answer_done, q, &err),
                    &err);
}

void api_vm_disconnect(struct api_request *q)
{
    struct qvd_error err;

    (void)api_began(
        q, store_admin_vm_disconnect(q->api->db, &q->who, q->id, api_answer_done, q, &err), &err);
}
