// SPDX-License-Identifier: GPL-3.0-or-later
/* The plugin "default": passwords in QVD's own database. (So are its bearer tokens, but those need
 * no hash that takes long: qvd-authd asks the database itself, authd/tokens.c.) */
#include "auth/password.h"
#include "auth/plugin.h"
#include "conf/conf.h"

static int find_tenant(const struct conf *c, const struct auth_attempt *a, struct login *ret)
{
    return login_parse(a->typed, conf_str(c, "l7r.auth.plugin.default.separators"),
                       conf_str(c, "l7r.auth.plugin.default.tenant"),
                       conf_bool(c, "model.user.login.case-sensitive"), ret);
}

static enum auth_verdict authenticate_basic(const struct conf *c, struct auth_attempt *a)
{
    enum password_verdict v =
        password_verify(a->password, a->stored, conf_str(c, "l7r.auth.plugin.default.salt"));

    a->rehash = v == PASSWORD_RIGHT_OLD;
    return v == PASSWORD_WRONG ? AUTH_NO : AUTH_YES;
}

const struct auth_plugin auth_plugin_default = {
    .name = "default",
    .text = "passwords of QVD's own database",
    .find_tenant = find_tenant,
    .authenticate_basic = authenticate_basic,
};
