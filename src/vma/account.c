// SPDX-License-Identifier: GPL-3.0-or-later
/* The rules of accounts; user.c carries them out. */
#include "vma/account.h"

#include <string.h>

#include "base/str.h"

#define HOME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@+-/"

static bool is_first(char c)
{
    return (c >= 'a' && c <= 'z') || c == '_';
}

static bool is_rest(char c)
{
    return is_first(c) || (c >= '0' && c <= '9') || c == '-';
}

int account_unix_name(const char *login, char ret_name[ACCOUNT_LOGIN_MAX + 1])
{
    size_t n = 0;

    if (!*login)
        return -EINVAL;
    for (const char *s = login; *s && n < ACCOUNT_LOGIN_MAX; s++) {
        char c = *s >= 'A' && *s <= 'Z' ? (char)(*s - 'A' + 'a') : *s;
        c = is_rest(c) ? c : '_';
        if (n == 0 && !is_first(c))
            ret_name[n++] = '_';
        ret_name[n++] = c;
    }
    ret_name[n] = '\0';
    return 0;
}

bool account_is_reserved(const char *name)
{
    return str_eq(name, "root") || str_eq(name, "nobody") || str_starts(name, "qvd-") ||
           str_starts(name, "systemd-");
}

bool account_home_is_good(const char *path)
{
    size_t names = 0;

    if (strlen(path) >= ACCOUNT_HOME_MAX || path[strspn(path, HOME_CHARS)])
        return false;
    while (*path == '/') {
        size_t n = strcspn(++path, "/");
        if (n == 0 || (n == 1 && path[0] == '.') || (n == 2 && path[0] == '.' && path[1] == '.'))
            return false;
        path += n;
        names++;
    }
    return *path == '\0' && names >= 2;
}

uid_t account_uid(const struct account_facts *f)
{
    if (f->want_uid >= 0)
        return f->want_uid;
    return f->home_exists ? f->home_uid : ACCOUNT_UID_MIN;
}

static must_check int check_uid(const struct account_facts *f, uid_t uid, struct qvd_error *err)
{
    if (uid >= ACCOUNT_UID_MIN)
        return 0;
    return qvd_error_set(err, -EPERM,
                         "user %s would run as uid %u, an account of the system; uids from %u on "
                         "are allowed (the home is %s)",
                         f->login, (unsigned)uid, (unsigned)ACCOUNT_UID_MIN, f->home);
}

static must_check int decide_existing(const struct account_facts *f, struct account_plan *plan,
                                      struct qvd_error *err)
{
    if (f->uid < ACCOUNT_UID_MIN)
        return qvd_error_set(err, -EPERM,
                             "login %s is an account of the desktop's system (uid %u): no user may "
                             "have it",
                             f->login, (unsigned)f->uid);
    if (!f->ours && !f->use_existing)
        return qvd_error_set(err, -EPERM,
                             "login %s is an account of the image; set vma.user.existing = use in "
                             "the image's vma.conf to allow it",
                             f->login);
    if (!f->ours && f->home_exists && f->home_uid != f->uid)
        return qvd_error_set(err, -EPERM, "home %s belongs to uid %u, account %s has uid %u",
                             f->home, (unsigned)f->home_uid, f->login, (unsigned)f->uid);
    *plan = (struct account_plan){
        .what = ACCOUNT_USE, .uid = f->uid, .gid = f->gid, .make_home = !f->home_exists};
    return 0;
}

/* The plugin's number, its group's, the home's, else the account's own. */
static must_check int choose_gid(const struct account_facts *f, uid_t uid, gid_t *ret_gid,
                                 struct qvd_error *err)
{
    bool has_group = f->group && f->group_gid > 0;

    if (f->want_gid >= 0 && has_group && f->want_gid != f->group_gid)
        return qvd_error_set(err, -EPERM, "group %s has gid %lld in this image, user %s wants %lld",
                             f->group, (long long)f->group_gid, f->login, (long long)f->want_gid);
    if (f->want_gid >= 0)
        *ret_gid = f->want_gid;
    else if (has_group)
        *ret_gid = f->group_gid;
    else
        *ret_gid = f->home_exists ? f->home_gid : uid;
    if (*ret_gid == 0 || (f->group && str_eq(f->group, "root")))
        return qvd_error_set(err, -EPERM, "user %s would have the group of root", f->login);
    return 0;
}

int account_decide(const struct account_facts *f, struct account_plan *ret_plan,
                   struct qvd_error *err)
{
    struct account_plan plan = {0};
    uid_t uid = account_uid(f);
    int r;

    if (account_is_reserved(f->login) && !f->exists)
        return qvd_error_set(err, -EPERM, "login %s is reserved for the desktop's system",
                             f->login);
    if (f->exists && (!f->ours || f->uid < ACCOUNT_UID_MIN)) {
        r = decide_existing(f, &plan, err);
        if (r == 0)
            *ret_plan = plan;
        return r;
    }
    if (f->home_exists && f->want_uid >= 0 && f->home_uid != uid)
        return qvd_error_set(err, -EPERM, "home %s belongs to uid %u, but user %s has uid %u",
                             f->home, (unsigned)f->home_uid, f->login, (unsigned)uid);
    /* An account of ours without home and without a plugin's word keeps its number. */
    if (f->exists && f->want_uid < 0 && !f->home_exists)
        uid = f->uid;
    r = check_uid(f, uid, err);
    if (r < 0)
        return r;
    if (f->uid_taken_by && (f->home_exists || f->want_uid >= 0) && !(f->exists && f->uid == uid))
        return qvd_error_set(err, -EPERM, "uid %u of user %s belongs to account %s of the image",
                             (unsigned)uid, f->login, f->uid_taken_by);
    if (f->uid_taken_by && !f->exists)
        uid = f->next_free;
    plan.uid = uid;
    r = choose_gid(f, uid, &plan.gid, err);
    if (r < 0)
        return r;
    plan.make_home = !f->home_exists;
    plan.what = !f->exists ? ACCOUNT_ADD : f->uid == uid ? ACCOUNT_USE : ACCOUNT_REMAKE;
    if (plan.what == ACCOUNT_USE)
        plan.gid = f->gid;
    *ret_plan = plan;
    return 0;
}
