// SPDX-License-Identifier: GPL-3.0-or-later
/* The steps from a login to a usable account: mount_home hook, facts, plan, group and account (or
 * the add_user hook), home, after_add_user hook. Each step is a command of its own, none waits in
 * the loop. What is made and then fails is taken away again. */
#include "vma/user.h"

#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "config.h"
#include "ev/child.h"
#include "vma/hook.h"

#define COMMAND_MS 60000
#define SKEL "/etc/skel"
/* Which accounts are of our making: kept beside /etc/passwd's life, in the overlay. */
#define OURS_DIR QVD_STATEDIR "/accounts"

struct user_job {
    struct ev_loop *loop;
    const struct conf *conf;
    struct wire_params *params;
    user_done_fn *done;
    void *arg;
    struct user user;
    struct account_plan plan;
    char groups[1024];                 /* names, for useradd -G */
    char group[ACCOUNT_LOGIN_MAX + 1]; /* the primary one, if it is made */
    bool made_group, made_account;
    bool adding;                           /* the account was not there when we began */
    char fresh_home[ACCOUNT_HOME_MAX + 8]; /* where a home is filled before it gets its name */
    struct qvd_error failure;              /* while what was made is taken away */
    struct hook *hook;
    struct ev_command *command;
    struct ev_timer *begin;
    void (*next)(struct user_job *j); /* after the present command or hook */
    const char *doing;
};

struct user_job *user_cancel(struct user_job *j)
{
    if (j) {
        hook_cancel(j->hook);
        ev_command_cancel(j->command);
        ev_timer_free(j->begin);
        free(j);
    }
    return NULL;
}

static void finish(struct user_job *j, const struct qvd_error *err)
{
    user_done_fn *done = j->done;
    void *arg = j->arg;
    struct user user = j->user;
    struct qvd_error copy = *err;

    user_cancel(j);
    done(arg, &user, &copy);
}

static void run(struct user_job *j, const char *doing, const char *const *argv,
                void (*next)(struct user_job *j));

static bool ours_path(const char *name, char *dst, size_t size)
{
    return str_format(dst, size, OURS_DIR "/%s", name) == 0;
}

/* ---- failure: the account and group of this job go again, one command after the other ---- */

static void undo_next(struct user_job *j);

static void on_undone(void *arg, const struct ev_command_result *result)
{
    struct user_job *j = arg;

    j->command = NULL;
    if (result->status != 0)
        log_warning("user %s: taking back: %.120s", j->user.name, result->errors);
    undo_next(j);
}

static void undo_next(struct user_job *j)
{
    const char *user[] = {conf_str(j->conf, "command.userdel"), "-f", j->user.name, NULL};
    const char *group[] = {conf_str(j->conf, "command.groupdel"), j->group, NULL};
    const char *const *argv = NULL;
    struct qvd_error err;
    char path[128];

    if (j->made_account) {
        j->made_account = false;
        argv = user;
        if (ours_path(j->user.name, path, sizeof path))
            (void)unlink(path);
    } else if (j->made_group && getgrnam(j->group)) { /* userdel may have taken it along */
        j->made_group = false;
        argv = group;
    }
    if (!argv || ev_command_run(j->loop, argv, NULL, 0, 4096, COMMAND_MS, on_undone, j, &j->command,
                                &err) < 0)
        finish(j, &j->failure);
}

static void give_up(struct user_job *j, const struct qvd_error *err)
{
    char path[128];

    j->failure = *err;
    if (j->adding && ours_path(j->user.name, path, sizeof path))
        (void)unlink(path);
    if (j->made_account || j->made_group)
        log_info("user %s: what was made of the account is taken back", j->user.name);
    undo_next(j);
}

static void fail(struct user_job *j, int code, const char *text)
{
    struct qvd_error err;

    (void)qvd_error_set(&err, code, "%s", text);
    give_up(j, &err);
}

/* ---- commands and hooks ---- */

static void on_command(void *arg, const struct ev_command_result *result)
{
    struct user_job *j = arg;
    struct qvd_error err;
    char status[32];

    j->command = NULL;
    if (result->status == 0) {
        j->next(j);
        return;
    }
    (void)qvd_error_set(&err, -EIO, "%s for user %s failed (%s): %.*s", j->doing, j->user.name,
                        ev_child_status_text(result->status, status, sizeof status),
                        (int)strcspn(result->errors, "\n"), result->errors);
    give_up(j, &err);
}

static void run(struct user_job *j, const char *doing, const char *const *argv,
                void (*next)(struct user_job *j))
{
    struct qvd_error err;

    j->doing = doing;
    j->next = next;
    if (ev_command_run(j->loop, argv, NULL, 0, 4096, COMMAND_MS, on_command, j, &j->command, &err) <
        0)
        give_up(j, &err);
}

static void on_hook(void *arg, const struct qvd_error *err)
{
    struct user_job *j = arg;

    j->hook = NULL;
    if (err->code) {
        /* An add_user hook that failed half-way. */
        j->made_account |= j->adding && getpwnam(j->user.name) != NULL;
        give_up(j, err);
    } else {
        j->next(j);
    }
}

/* Runs a provisioning hook and then next; true when such a hook is set. */
static bool run_hook(struct user_job *j, const char *name, void (*next)(struct user_job *j))
{
    struct qvd_error err;
    char key[64];

    const struct hook_spec spec = {.key = key,
                                   .params = j->params,
                                   .state = WIRE_X_PROVISIONING,
                                   .name = "qvd.hook.on_provisioning",
                                   .value = name};

    j->next = next;
    (void)!snprintf(key, sizeof key, "vma.on_provisioning.%s", name);
    int r = hook_run(j->loop, j->conf, &spec, on_hook, j, &j->hook, &err);
    if (r < 0)
        give_up(j, &err);
    return r <= 0;
}

static void done_all(struct user_job *j)
{
    struct qvd_error none = {0};

    finish(j, &none);
}

static void after_account(struct user_job *j)
{
    if (j->plan.what == ACCOUNT_USE || !run_hook(j, "after_add_user", done_all))
        done_all(j);
}

/* ---- the home: filled under another name by its owner, so that it is there whole or not ---- */

static void home_filled(struct user_job *j)
{
    struct qvd_error err;

    if (rename(j->fresh_home, j->user.home) < 0) {
        (void)qvd_error_errno(&err, errno, "cannot name the home %s", j->user.home);
        give_up(j, &err);
        return;
    }
    after_account(j);
}

static void fill_home(struct user_job *j)
{
    char spec[USER_SPEC_MAX];
    const char *argv[] = {"/proc/self/exe", "--fill-home", spec, SKEL, j->fresh_home, NULL};

    if (mkdir(j->fresh_home, 0755) < 0 || chown(j->fresh_home, j->user.uid, j->user.gid) < 0) {
        struct qvd_error err;
        (void)qvd_error_errno(&err, errno, "cannot make the home %s", j->user.home);
        give_up(j, &err);
        return;
    }
    if (user_spec(&j->user, "0022", spec) < 0)
        fail(j, -ENOBUFS, "too many groups");
    else if (access(SKEL, F_OK) < 0)
        home_filled(j);
    else
        run(j, "filling the home", argv, home_filled);
}

static void make_home(struct user_job *j)
{
    const char *remove[] = {"/bin/rm", "-rf", "--one-file-system", j->fresh_home, NULL};
    const char *name = strrchr(j->user.home, '/');
    struct stat st;

    if (!j->plan.make_home || lstat(j->user.home, &st) == 0) { /* the add_user hook may have */
        after_account(j);
        return;
    }
    (void)!snprintf(j->fresh_home, sizeof j->fresh_home, "%.*s/.new-%s", (int)(name - j->user.home),
                    j->user.home, name + 1);
    /* A start that was cut left it; rm follows no links. */
    if (lstat(j->fresh_home, &st) == 0)
        run(j, "clearing an unfinished home", remove, fill_home);
    else
        fill_home(j);
}

/* ---- the account ---- */

/* After a hook of the image too: nobody becomes an account of the system. */
static void account_made(struct user_job *j)
{
    const struct passwd *pw = getpwnam(j->user.name);
    char number[16];
    int r;

    if (!pw || pw->pw_uid < ACCOUNT_UID_MIN || pw->pw_gid == 0) {
        struct qvd_error err;
        (void)qvd_error_set(&err, -EPERM, "account %s %s after it was added", j->user.name,
                            pw ? "belongs to the desktop's system" : "is not there");
        give_up(j, &err);
        return;
    }
    j->user.uid = pw->pw_uid;
    j->user.gid = pw->pw_gid;
    snprintf(number, sizeof number, "%u", (unsigned)pw->pw_uid);
    r = wire_params_set(j->params, "qvd.vm.user.uid", number);
    if (r == 0) {
        snprintf(number, sizeof number, "%u", (unsigned)pw->pw_gid);
        r = wire_params_set(j->params, "qvd.vm.user.gid", number);
    }
    const struct group *g = getgrgid(j->user.gid);
    if (r == 0 && g)
        r = wire_params_set(j->params, "qvd.vm.user.group", g->gr_name);
    if (r < 0)
        log_warning("user %s: hooks are not told his numbers: %s", j->user.name, strerror(-r));
    make_home(j);
}

/* Before the account is there: an agent killed in between must know it for its own. */
static void remember_ours(const struct user_job *j)
{
    char path[128];
    int r = ours_path(j->user.name, path, sizeof path) ? 0 : -ENOBUFS;

    if (r == 0)
        r = fs_mkdirs(OURS_DIR, 0700);
    if (r == 0)
        r = fs_write_atomic(path, "", 0, 0600);
    if (r < 0)
        log_warning("cannot note account %s as made by us: %s", j->user.name, strerror(-r));
}

static void account_added(struct user_job *j)
{
    j->made_account = true;
    account_made(j);
}

/* useradd can make the account's own group along with it. Programs that the image has set are asked
 * one after the other: who set groupadd wants to hear of each group. */
static bool takes_group_along(const struct user_job *j)
{
    return strcmp(j->group, j->user.name) == 0 && j->user.uid == j->user.gid &&
           !conf_is_set(j->conf, "command.useradd") && !conf_is_set(j->conf, "command.groupadd");
}

/* with_group: the range makes sure that the group gets that gid, or useradd fails. */
static void add_user(struct user_job *j, bool with_group)
{
    char uid[16], gid[16], least[32], most[32];
    const char *argv[20];
    size_t n = 0;

    snprintf(uid, sizeof uid, "%u", (unsigned)j->user.uid);
    snprintf(gid, sizeof gid, "%u", (unsigned)j->user.gid);
    snprintf(least, sizeof least, "GID_MIN=%s", gid);
    snprintf(most, sizeof most, "GID_MAX=%s", gid);
    argv[n++] = conf_str(j->conf, "command.useradd");
    argv[n++] = "-M";
    argv[n++] = "-d";
    argv[n++] = j->user.home;
    argv[n++] = "-s";
    argv[n++] = conf_str(j->conf, "vma.user.shell");
    argv[n++] = "-u";
    argv[n++] = uid;
    if (with_group) {
        argv[n++] = "-U";
        argv[n++] = "-K";
        argv[n++] = least;
        argv[n++] = "-K";
        argv[n++] = most;
    } else {
        argv[n++] = "-g";
        argv[n++] = gid;
    }
    if (j->groups[0]) {
        argv[n++] = "-G";
        argv[n++] = j->groups;
    }
    argv[n++] = j->user.name;
    argv[n] = NULL;
    run(j, "making the account", argv, account_added);
}

static void group_made(struct user_job *j)
{
    j->made_group = true;
    add_user(j, false);
}

static void add_group(struct user_job *j)
{
    const char *wanted = wire_params_get(j->params, "qvd.vm.user.group");
    char gid[16];
    const char *argv[] = {conf_str(j->conf, "command.groupadd"), "-g", gid, j->group, NULL};

    if (getgrgid(j->user.gid)) {
        add_user(j, false);
        return;
    }
    snprintf(gid, sizeof gid, "%u", (unsigned)j->user.gid);
    if (!wanted || !*wanted || account_unix_name(wanted, j->group) < 0)
        (void)!snprintf(j->group, sizeof j->group, "%s", j->user.name);
    if (getgrnam(j->group))
        snprintf(j->group, sizeof j->group, "g%u", (unsigned)j->user.gid);
    if (takes_group_along(j)) {
        j->made_group = true; /* before useradd fails, it may be */
        add_user(j, true);
    } else {
        run(j, "making the group", argv, group_made);
    }
}

static void make_account(struct user_job *j)
{
    const char *remove[] = {conf_str(j->conf, "command.userdel"), "-f", j->user.name, NULL};

    switch (j->plan.what) {
    case ACCOUNT_USE:
        account_made(j);
        return;
    case ACCOUNT_REMAKE:
        run(j, "renewing the account", remove, add_group);
        return;
    case ACCOUNT_ADD:
        j->adding = true;
        remember_ours(j);
        if (!run_hook(j, "add_user", account_added))
            add_group(j);
    }
}

static must_check int param_id(const struct wire_params *params, const char *name, int64_t *ret_id)
{
    const char *text = wire_params_get(params, name);

    *ret_id = -1;
    return text && *text ? str_to_i64(text, 0, 1 << 30, ret_id) : 0;
}

static bool is_ours(const char *name)
{
    char path[128];

    return ours_path(name, path, sizeof path) && access(path, F_OK) == 0;
}

static uid_t next_free_uid(void)
{
    uid_t uid = ACCOUNT_UID_MIN;

    while (uid < ACCOUNT_UID_MAX && (getpwuid(uid) || getgrgid(uid)))
        uid++;
    return uid;
}

/* An account of the image keeps the groups that the image gives it. */
static void take_image_groups(struct user_job *j)
{
    gid_t groups[USER_GROUPS_MAX];
    int n = ARRAY_SIZE(groups);

    if (getgrouplist(j->user.name, j->user.gid, groups, &n) < 0)
        n = ARRAY_SIZE(groups);
    for (int i = 0; i < n; i++)
        if (groups[i] != 0 && groups[i] != j->user.gid)
            j->user.groups[j->user.n_groups++] = groups[i];
}

/* Names of groups that the image has, and their numbers; others are left out. */
static void take_groups(struct user_job *j)
{
    const char *list = wire_params_get(j->params, "qvd.vm.user.groups"), *at = NULL;
    char name[64];
    struct buf names;

    buf_init(&names, sizeof j->groups - 1);
    while (conf_list_next(list, &at, name, sizeof name) && j->user.n_groups < USER_GROUPS_MAX) {
        const struct group *g = getgrnam(name);
        if (!g || g->gr_gid == 0) {
            log_warning("user %s: group %s %s, ignoring it", j->user.name, name,
                        g ? "is root's" : "is not in this image");
            continue;
        }
        if (buf_printf(&names, "%s%s", names.len ? "," : "", name) < 0)
            break;
        j->user.groups[j->user.n_groups++] = g->gr_gid;
    }
    memcpy(j->groups, names.data ? names.data : (const uint8_t *)"", names.len);
    j->groups[names.len] = '\0';
    buf_done(&names);
}

static void read_home(struct account_facts *f, const struct stat *st)
{
    f->home_exists = true;
    f->home_uid = st->st_uid;
    f->home_gid = st->st_gid;
}

/* What the image knows of that name; an account that is not of our making has its own home. */
static void read_account(struct user_job *j, struct account_facts *f)
{
    const struct passwd *pw = getpwnam(j->user.name);
    const struct group *g = f->group ? getgrnam(f->group) : NULL;

    f->use_existing = str_eq(conf_str(j->conf, "vma.user.existing"), "use");
    f->group_gid = g ? (int64_t)g->gr_gid : -1;
    if (!pw)
        return;
    f->exists = true;
    f->ours = is_ours(j->user.name);
    f->uid = pw->pw_uid;
    f->gid = pw->pw_gid;
    if (!f->ours && account_home_is_good(pw->pw_dir))
        (void)!snprintf(j->user.home, sizeof j->user.home, "%s", pw->pw_dir);
}

static void home_ready(struct user_job *j)
{
    struct account_facts f = {.login = j->user.name, .home = j->user.home};
    struct qvd_error err;
    char taken[64];
    struct stat st;

    f.group = wire_params_get(j->params, "qvd.vm.user.group");
    if (f.group && !*f.group)
        f.group = NULL;
    if (param_id(j->params, "qvd.vm.user.uid", &f.want_uid) < 0 ||
        param_id(j->params, "qvd.vm.user.gid", &f.want_gid) < 0) {
        fail(j, -EPERM, "qvd.vm.user.uid or .gid is no number");
        return;
    }
    read_account(j, &f);
    if (lstat(j->user.home, &st) == 0) {
        if (!S_ISDIR(st.st_mode)) {
            fail(j, -EPERM, "the home is no folder");
            return;
        }
        read_home(&f, &st);
    }
    const struct passwd *pw = getpwuid(account_uid(&f));
    if (pw && strcmp(pw->pw_name, j->user.name) != 0) {
        snprintf(taken, sizeof taken, "%s", pw->pw_name);
        f.uid_taken_by = taken;
    }
    f.next_free = f.uid_taken_by ? next_free_uid() : 0;
    if (account_decide(&f, &j->plan, &err) < 0) {
        give_up(j, &err);
        return;
    }
    j->user.uid = j->plan.uid;
    j->user.gid = j->plan.gid;
    if (f.exists && !f.ours)
        take_image_groups(j);
    take_groups(j);
    make_account(j);
}

static void begin(void *arg)
{
    struct user_job *j = arg;
    char folder[ACCOUNT_HOME_MAX];
    struct qvd_error err;

    (void)!snprintf(folder, sizeof folder, "%s", j->user.home);
    *strrchr(folder, '/') = '\0';
    int r = fs_mkdirs(folder, 0755);
    if (r < 0) {
        (void)qvd_error_errno(&err, r, "the folder of homes, %s, cannot be made", folder);
        give_up(j, &err);
        return;
    }
    if (access(j->user.home, F_OK) == 0 || !run_hook(j, "mount_home", home_ready))
        home_ready(j);
}

int user_prepare(struct ev_loop *loop, const struct conf *conf, struct wire_params *params,
                 const struct user *user, user_done_fn *done, void *arg, struct user_job **ret_job)
{
    struct user_job *j = calloc(1, sizeof *j);

    if (!j)
        return -ENOMEM;
    *j = (struct user_job){
        .loop = loop, .conf = conf, .params = params, .user = *user, .done = done, .arg = arg};
    if (ev_timer_new(loop, begin, j, &j->begin) < 0) {
        user_cancel(j);
        return -ENOMEM;
    }
    ev_timer_arm(j->begin, 0);
    *ret_job = j;
    return 0;
}
