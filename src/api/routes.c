// SPDX-License-Identifier: GPL-3.0-or-later
/* The table of what the API can be asked. */
#include <string.h>

#include "api/api-internal.h"

#include "config.h"

/* clang-format off */
const struct route api_routes[] = {
    {"GET", "info", true, api_info, "Product and versions; `public`: the settings `api.public.*`"},
    {"POST", "login", true, api_login,
     "`{login, password, tenant}` gives `{ticket}`, the bearer token of all other requests"},
    {"POST", "logout", false, api_logout, "Ends the session of the ticket"},
    {"GET", "session", false, api_session, "Who the ticket belongs to"},
    {"POST", "password", false, api_password,
     "`{password, new}`: one's own password; one's other sessions end"},
    {"GET", "config", false, api_config_list,
     "Settings and their values; `?key=` one (repeatable as a list with commas), `?tenant=`"},
    {"PUT", "config/*", false, api_config_set, "`{value}`; `?tenant=` for one tenant"},
    {"DELETE", "config/*", false, api_config_delete, "Back to the default; `?tenant=`"},
    {"PUT", "ssl", false, api_config_ssl,
     "`{cert, key, ca, crl}` as PEM text: certificate and key of the L7Rs; `ca` and `crl` for "
     "clients'"},
    {"GET", "*", false, api_list,
     "`?filter=` (qa's language), `fields=a,b`, `sort=name,-id`, `limit=`, `offset=` give"
     " `{total, rows}`"},
    {"POST", "*", false, api_create, "Creates one of the body's fields; gives `{id}`"},
    {"GET", "*/*", false, api_show, "One object, `?fields=`"},
    {"PATCH", "*/*", false, api_edit, "Sets the body's fields"},
    {"DELETE", "*/*", false, api_delete, "Deletes it, unless something needs it"},
    {"POST", "*/*/block", false, api_block, "Blocks it (host, user, vm, di)"},
    {"POST", "*/*/unblock", false, api_unblock, "Unblocks it"},
    {"POST", "vm/*/start", false, api_vm_start, "Starts it on the best node"},
    {"POST", "vm/*/stop", false, api_vm_stop, "Stops it"},
    {"POST", "vm/*/disconnect", false, api_vm_disconnect, "Ends the session in it"},
    {"POST", "di/*/tag", false, api_di_tag, "`{tag}`: takes it from the image that has it"},
    {"POST", "di/*/untag", false, api_di_untag, "`{tag}`"},
};
/* clang-format on */
const size_t api_n_routes = ARRAY_SIZE(api_routes);

#define PUBLIC "api.public."

void api_info(struct api_request *q)
{
    const struct conf *c = q->api->conf;
    json_t *public = json_object();
    const char *key, *value;
    size_t at = 0;

    while (public && conf_below(c, PUBLIC, &at, &key, &value))
        (void)!json_object_set_new(public, key + strlen(PUBLIC), json_string(value));
    api_answer_json(q, 200,
                    json_pack("{s:s,s:s,s:i,s:b,s:s,s:o}", "product", "QVD", "version", QVD_VERSION,
                              "api", 1, "multitenant", conf_bool(c, "wat.multitenant"),
                              "separators", conf_str(c, "l7r.auth.plugin.default.separators"),
                              "public", public));
}
