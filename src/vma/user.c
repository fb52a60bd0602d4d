// SPDX-License-Identifier: GPL-3.0-or-later
/* The steps from a login to a usable account: facts, plan, hooks, groupadd, useradd, home. Each
 * step is a command of its own, none waits in the loop. */
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

#define COMMAND_MS 20000
/* Which accounts are of our making: kept beside /etc/passwd's life, in the overlay. */
#define OURS_DIR QVD_STATEDIR "/accounts"

struct user_job {
    struct ev_loop *loop;
    const struct conf *conf;
    const struct wire_params *params;
    user_done_fn *done;
    void *arg;
    struct user user;
    struct account_plan plan;
    char groups[1024]; /* names, for useradd -G */
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

static void fail(struct user_job *j, int code, const char *text)
{
    struct qvd_error err;

    (void)qvd_error_set(&err, code, "%s", text);
    finish(j, &err);
}

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
    (void)qvd_error_set(&err, -EIO, "%s for user %s failed (%s): %.120s", j->doing, j->user.name,
                        ev_child_status_text(result->status, status, sizeof status),
                        result->errors);
    finish(j, &err);
}

static void run(struct user_job *j, const char *doing, const char *const *argv,
                void (*next)(struct user_job *j))
{
    struct qvd_error err;

    j->doing = doing;
    j->next = next;
    if (ev_command_run(j->loop, argv, NULL, 0, 4096, COMMAND_MS, on_command, j, &j->command, &err) <
        0)
        finish(j, &err);
}

static void on_hook(void *arg, const struct qvd_error *err)
{
    struct user_job *j = arg;

    j->hook = NULL;
    if (err->code)
        finish(j, err);
    else
        j->next(j);
}

/* Runs a provisioning hook and then next; true when such a hook is set. */
static bool run_hook(struct user_job *j, const char *name, void (*next)(struct user_job *j))
{
    struct qvd_error err;
    char key[64];

    j->next = next;
    int r = str_format(key, sizeof key, "vma.on_provisioning.%s", name);
    if (r == 0)
        r = hook_run(j->loop, j->conf, key, j->params, "qvd.hook.on_provisioning", name, on_hook, j,
                     &j->hook, &err);
    if (r < 0)
        finish(j, &err);
    return r <= 0;
}

static void done_all(struct user_job *j)
{
    struct qvd_error none = {0};

    finish(j, &none);
}

/* The home is made empty and given away; what comes in is copied by its owner. */
static void make_home(struct user_job *j)
{
    char spec[USER_SPEC_MAX];
    const char *argv[] = {"/proc/self/exe", "--run-as",   spec, "/bin/cp", "-rT",
                          "/etc/skel",      j->user.home, NULL};

    if (!j->plan.make_home) {
        done_all(j);
        return;
    }
    if (mkdir(j->user.home, 0755) < 0 || chown(j->user.home, j->user.uid, j->user.gid) < 0) {
        struct qvd_error err;
        (void)qvd_error_errno(&err, errno, "cannot make the home %s", j->user.home);
        finish(j, &err);
        return;
    }
    if (user_spec(&j->user, "0022", spec) < 0)
        fail(j, -ENOBUFS, "too many groups");
    else
        run(j, "filling the home", argv, done_all);
}

static void account_made(struct user_job *j)
{
    if (!run_hook(j, "after_add_user", make_home))
        make_home(j);
}

static void remember_ours(struct user_job *j)
{
    char path[128];
    int r = str_format(path, sizeof path, OURS_DIR "/%s", j->user.name);

    if (r == 0)
        r = fs_mkdirs(OURS_DIR, 0700);
    if (r == 0)
        r = fs_write_atomic(path, "", 0, 0600);
    if (r < 0)
        log_warning("cannot note account %s as made by us: %s", j->user.name, strerror(-r));
    account_made(j);
}

static void add_user(struct user_job *j)
{
    char uid[16], gid[16];
    const char *argv[16];
    size_t n = 0;

    snprintf(uid, sizeof uid, "%u", (unsigned)j->user.uid);
    snprintf(gid, sizeof gid, "%u", (unsigned)j->user.gid);
    argv[n++] = conf_str(j->conf, "command.useradd");
    argv[n++] = "-M";
    argv[n++] = "-d";
    argv[n++] = j->user.home;
    argv[n++] = "-s";
    argv[n++] = conf_str(j->conf, "vma.user.shell");
    argv[n++] = "-u";
    argv[n++] = uid;
    argv[n++] = "-g";
    argv[n++] = gid;
    if (j->groups[0]) {
        argv[n++] = "-G";
        argv[n++] = j->groups;
    }
    argv[n++] = j->user.name;
    argv[n] = NULL;
    run(j, "making the account", argv, remember_ours);
}

static void add_group(struct user_job *j)
{
    char gid[16], name[ACCOUNT_LOGIN_MAX + 1];
    const char *argv[] = {conf_str(j->conf, "command.groupadd"), "-g", gid, name, NULL};

    if (getgrgid(j->user.gid)) {
        add_user(j);
        return;
    }
    snprintf(gid, sizeof gid, "%u", (unsigned)j->user.gid);
    snprintf(name, sizeof name, "%s", j->user.name);
    if (getgrnam(name))
        snprintf(name, sizeof name, "g%u", (unsigned)j->user.gid);
    run(j, "making the group", argv, add_user);
}

static void make_account(struct user_job *j)
{
    const char *remove[] = {conf_str(j->conf, "command.userdel"), "-f", j->user.name, NULL};

    switch (j->plan.what) {
    case ACCOUNT_USE:
        make_home(j);
        return;
    case ACCOUNT_REMAKE:
        run(j, "renewing the account", remove, add_group);
        return;
    case ACCOUNT_ADD:
        if (!run_hook(j, "add_user", account_made))
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

    return str_format(path, sizeof path, OURS_DIR "/%s", name) == 0 && access(path, F_OK) == 0;
}

static uid_t next_free_uid(void)
{
    uid_t uid = ACCOUNT_UID_MIN;

    while (uid < ACCOUNT_UID_MAX && (getpwuid(uid) || getgrgid(uid)))
        uid++;
    return uid;
}

/* Names of groups that the image has, and their numbers; others are left out. */
static void take_groups(struct user_job *j)
{
    const char *list = wire_params_get(j->params, "qvd.vm.user.groups"), *at = NULL;
    char name[64];
    struct buf names;

    if (!list || !*list)
        list = conf_str(j->conf, "vma.user.default.groups");
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

static void home_ready(struct user_job *j)
{
    struct account_facts f = {.login = j->user.name, .home = j->user.home};
    struct qvd_error err;
    char taken[64];
    struct stat st;

    if (param_id(j->params, "qvd.vm.user.uid", &f.want_uid) < 0 ||
        param_id(j->params, "qvd.vm.user.gid", &f.want_gid) < 0) {
        fail(j, -EPERM, "qvd.vm.user.uid or .gid is no number");
        return;
    }
    if (lstat(j->user.home, &st) == 0) {
        if (!S_ISDIR(st.st_mode)) {
            fail(j, -EPERM, "the home is no folder");
            return;
        }
        f.home_exists = true;
        f.home_uid = st.st_uid;
        f.home_gid = st.st_gid;
    }
    f.use_existing = str_eq(conf_str(j->conf, "vma.user.existing"), "use");
    const struct passwd *pw = getpwnam(j->user.name);
    if (pw) {
        f.exists = true;
        f.ours = is_ours(j->user.name);
        f.uid = pw->pw_uid;
        f.gid = pw->pw_gid;
    }
    pw = getpwuid(account_uid(&f));
    if (pw && strcmp(pw->pw_name, j->user.name) != 0) {
        snprintf(taken, sizeof taken, "%s", pw->pw_name);
        f.uid_taken_by = taken;
    }
    f.next_free = next_free_uid();
    if (account_decide(&f, &j->plan, &err) < 0) {
        finish(j, &err);
        return;
    }
    j->user.uid = j->plan.uid;
    j->user.gid = j->plan.gid;
    take_groups(j);
    make_account(j);
}

static void begin(void *arg)
{
    struct user_job *j = arg;
    const char *login = wire_params_get(j->params, "qvd.vm.user.name");

    if (!login || !*login)
        login = conf_str(j->conf, "vma.user.default.name");
    if (account_unix_name(login, j->user.name) < 0 ||
        str_format(j->user.home, sizeof j->user.home, "%s/%s",
                   conf_str(j->conf, "vma.user.home.path"), j->user.name) < 0) {
        fail(j, -EPERM, "the login is empty or the path of homes too long");
        return;
    }
    if (fs_mkdirs(conf_str(j->conf, "vma.user.home.path"), 0755) < 0) {
        fail(j, -EIO, "the folder of homes cannot be made");
        return;
    }
    if (access(j->user.home, F_OK) == 0 || !run_hook(j, "mount_home", home_ready))
        home_ready(j);
}

int user_prepare(struct ev_loop *loop, const struct conf *conf, const struct wire_params *params,
                 user_done_fn *done, void *arg, struct user_job **ret_job)
{
    struct user_job *j = calloc(1, sizeof *j);

    if (!j)
        return -ENOMEM;
    *j = (struct user_job){.loop = loop, .conf = conf, .params = params, .done = done, .arg = arg};
    if (ev_timer_new(loop, begin, j, &j->begin) < 0) {
        user_cancel(j);
        return -ENOMEM;
    }
    ev_timer_arm(j->begin, 0);
    *ret_job = j;
    return 0;
}
