// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Disk images: their coming (a row, a copy, its publication with its tags), tags, their going.
 * Needs the role qvd_api. */

#include "store/admin.h"

struct admin_di_new {
    int64_t tenant;
    const char *osf; /* name; NULL: osf_id */
    int64_t osf_id;
    const char *version; /* NULL: YYYY-MM-DD-NNN of today (UTC) */
    const char *description;
    const char *tags; /* more tags, as PostgreSQL's array text: {"a","b"}; NULL: none */
};
/* The row, in state uploading; VMs do not see it. Its tags when published: its version (fixed),
 * head, the given ones, and default when nothing of the OSF has that. */
must_check enum admin_status store_admin_di_new(struct db *db, const struct admin_who *who,
                                                const struct admin_di_new *di, admin_done_fn *fn,
                                                void *arg, struct qvd_error *err);
/* The file is there: VMs start with it from now on. */
must_check enum admin_status store_admin_di_publish(struct db *db, int64_t di, const char *path,
                                                    int64_t size, const char *sha256,
                                                    admin_done_fn *fn, void *arg,
                                                    struct qvd_error *err);
/* How far the copy is; told to nobody when it fails. */
void store_admin_di_progress(struct db *db, int64_t di, double percentage);
must_check enum admin_status store_admin_di_fail(struct db *db, int64_t di, const char *why,
                                                 admin_done_fn *fn, void *arg,
                                                 struct qvd_error *err);
/* All that were being copied when qvd-api ended. */
must_check enum admin_status store_admin_di_interrupted(struct db *db, admin_done_fn *fn, void *arg,
                                                        struct qvd_error *err);
/* Moves the tag here from whichever image of the OSF has it. Fixed tags stay. */
must_check enum admin_status store_admin_di_tag(struct db *db, const struct admin_who *who,
                                                int64_t di, const char *tag, admin_done_fn *fn,
                                                void *arg, struct qvd_error *err);
must_check enum admin_status store_admin_di_untag(struct db *db, const struct admin_who *who,
                                                  int64_t di, const char *tag, admin_done_fn *fn,
                                                  void *arg, struct qvd_error *err);
/* head and default go to the newest other published image of the OSF, then the row goes. path: the
 * file that is of no more use, "" none; lives until fn returns. */
typedef void admin_di_deleted_fn(void *arg, const struct admin_done *done, const char *path);
must_check enum admin_status store_admin_di_delete(struct db *db, const struct admin_who *who,
                                                   int64_t di, admin_di_deleted_fn *fn, void *arg,
                                                   struct qvd_error *err);
