// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Who a session runs as: the rules, apart from what carries them out. An account's uid follows its
 * home, never the reverse; nobody becomes uid 0 or an account of the system. Pure. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

#define ACCOUNT_LOGIN_MAX 32
#define ACCOUNT_HOME_MAX 256 /* bytes of a path and its NUL */
/* Below are the accounts of the system (login.defs, UID_MIN). */
#define ACCOUNT_UID_MIN 1000
#define ACCOUNT_UID_MAX 60000

/* The Unix name of a QVD login: what is a valid one stays; else letters become small, each other
 * byte outside [a-z0-9_-] '_', a '_' comes before a digit or '-' at the start, and the rest after
 * 32 bytes is cut. 0 or -EINVAL (empty). */
must_check int account_unix_name(const char *login, char ret_name[ACCOUNT_LOGIN_MAX + 1]);
/* A name that is the system's although perhaps no account has it yet: root, nobody, qvd-*,
 * systemd-*. */
bool account_is_reserved(const char *name);
/* A plugin's home: an absolute path of at least two names, without ".", ".." and characters that
 * /etc/passwd or a shell would misread. */
bool account_home_is_good(const char *path);

/* What is so in the VM, and what was asked for. */
struct account_facts {
    const char *login; /* Unix name */
    const char *home;  /* path */
    bool exists;       /* such an account is there */
    bool ours;         /* and an earlier start has made it */
    bool use_existing; /* vma.user.existing = use */
    uid_t uid;         /* of the account */
    gid_t gid;
    bool home_exists;
    uid_t home_uid;
    gid_t home_gid;
    int64_t want_uid, want_gid; /* a plugin's; -1: none */
    const char *group;          /* a plugin's primary group, by name; NULL: none */
    int64_t group_gid;          /* of the image's group of that name; 0 or less: it has none */
    const char *uid_taken_by;   /* another account with the uid that account_uid() gives; NULL */
    uid_t next_free;            /* with uid_taken_by: the first free one from ACCOUNT_UID_MIN */
};

enum account_do {
    ACCOUNT_USE,   /* as it is */
    ACCOUNT_ADD,   /* make it */
    ACCOUNT_REMAKE /* ours with another uid: delete the account, not the home, and make it */
};
struct account_plan {
    enum account_do what;
    uid_t uid;
    gid_t gid;
    bool make_home;
};

/* The uid that a new account would get if it is free: the plugin's, else the home's, else
 * ACCOUNT_UID_MIN. For filling uid_taken_by. */
uid_t account_uid(const struct account_facts *f);
/* 0, or -EPERM with err: refused, for the user to read. */
must_check int account_decide(const struct account_facts *f, struct account_plan *ret_plan,
                              struct qvd_error *err);
