// SPDX-License-Identifier: GPL-3.0-or-later
/* From the parameters of a session to the name and home of its account. */
#include <string.h>

#include "base/str.h"
#include "vma/user.h"

static const char *given(const struct wire_params *params, const char *name, const char *otherwise)
{
    const char *value = wire_params_get(params, name);

    return value && *value ? value : otherwise;
}

static must_check int tell_hooks(const struct conf *conf, struct wire_params *params,
                                 const char *login, const struct user *u)
{
    const char *groups =
        given(params, "qvd.vm.user.groups", conf_str(conf, "vma.user.default.groups"));
    int r = wire_params_set(params, "qvd.vm.user.groups", groups);

    if (r == 0)
        r = wire_params_set(params, "qvd.vm.user.login", login);
    if (r == 0)
        r = wire_params_set(params, "qvd.vm.user.name", u->name);
    return r < 0 ? r : wire_params_set(params, "qvd.vm.user.home", u->home);
}

int user_resolve(const struct conf *conf, struct wire_params *params, struct user *ret_user,
                 struct qvd_error *err)
{
    const char *home = given(params, "qvd.vm.user.home", NULL);
    _cleanup_(free_p) char *login =
        strdup(given(params, "qvd.vm.user.name", conf_str(conf, "vma.user.default.name")));
    struct user u = {0};
    int r;

    if (!login)
        return qvd_error_set(err, -ENOMEM, "out of memory");
    if (account_unix_name(login, u.name) < 0)
        return qvd_error_set(err, -EPERM, "the login is empty");
    if (home)
        r = str_copy(u.home, sizeof u.home, home);
    else
        r = str_format(u.home, sizeof u.home, "%s/%s", conf_str(conf, "vma.user.home.path"),
                       u.name);
    if (r < 0 || !account_home_is_good(u.home))
        return qvd_error_set(err, -EPERM, "the home of user %s is no good path: %.100s", u.name,
                             r < 0 ? "too long" : u.home);
    r = tell_hooks(conf, params, login, &u);
    if (r < 0)
        return qvd_error_errno(err, r == -ENOMEM ? r : -EPERM, "user %s", u.name);
    *ret_user = u;
    return 0;
}
