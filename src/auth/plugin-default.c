// SPDX-License-Identifier: GPL-3.0-or-later
/* The plugin "default": passwords in QVD's own database. */
#include "auth/password.h"
#include "auth/plugin.h"

static enum auth_verdict verify(const struct conf *c, struct auth_attempt *a)
{
    enum password_verdict v =
        password_verify(a->password, a->stored, conf_str(c, "l7r.auth.plugin.default.salt"));

    a->rehash = v == PASSWORD_RIGHT_OLD;
    return v == PASSWORD_WRONG ? AUTH_NO : AUTH_YES;
}

const struct auth_plugin auth_plugin_default = {
    .name = "default",
    .text = "passwords of QVD's own database",
    .verify = verify,
};
