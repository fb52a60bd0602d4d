// SPDX-License-Identifier: GPL-3.0-or-later

/* The first administrator: admin@* with a password of 20 random characters, told once. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "auth/password.h"
#include "base/fs.h"
#include "base/str.h"
#include "deploy/deploy.h"

enum { PASSWORD_LEN = 20 };

/* The file is there with the password before the administrator is. */
static int write_file(const char *path, const char *password, struct qvd_error *err)
{
    _cleanup_(close_p) int fd =
        open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    char line[PASSWORD_LEN + 2];
    int r;

    if (fd < 0)
        return qvd_error_errno(err, errno, "--admin-password-file %s", path);
    (void)snprintf(line, sizeof line, "%s\n", password);
    r = fs_write_all(fd, line, strlen(line));
    password_wipe(line);
    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    if (r < 0) {
        (void)unlink(path);
        return qvd_error_errno(err, r, "--admin-password-file %s", path);
    }
    return 0;
}

static int insert(struct deploy *d, const char *password, struct qvd_error *err)
{
    char hash[PASSWORD_HASH_MAX];
    int r = password_hash(password, hash, err);

    if (r == 0)
        r = deploy_sql1(d->pg, NULL, err,
                        "INSERT INTO administrators (tenant_id, name, description, password) "
                        "VALUES (0, 'admin', 'First administrator', $1)",
                        hash);
    explicit_bzero(hash, sizeof hash);
    return r;
}

int deploy_first_admin(struct deploy *d, struct qvd_error *err)
{
    const char *file = d->admin_password_file;
    char password[PASSWORD_LEN + 1];
    long long n;
    int r =
        deploy_number(d->pg, "SELECT count(*) FROM administrators WHERE tenant_id = 0", &n, err);

    if (r < 0)
        return r;
    if (n > 0) {
        if (file)
            printf("administrator: there is one, %s is not written\n", file);
        return 0;
    }
    if (!file && !isatty(STDOUT_FILENO))
        return qvd_error_set(
            err, -ENOTTY,
            "the schema is installed, but there is no administrator yet: run again "
            "with --admin-password-file FILE, or on a terminal");
    r = random_alnum(password, PASSWORD_LEN);
    if (r < 0)
        return qvd_error_errno(err, r, "random password");
    if (file)
        r = write_file(file, password, err);
    if (r == 0) {
        r = insert(d, password, err);
        if (r < 0 && file)
            (void)unlink(file);
    }
    if (r == 0 && file)
        printf("administrator admin@*: made, password in %s\n", file);
    else if (r == 0)
        printf("administrator admin@*: made, password %s (not shown again)\n", password);
    explicit_bzero(password, sizeof password);
    return r;
}
