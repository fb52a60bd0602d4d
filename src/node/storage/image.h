// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Images unpacked once for all VMs: by qvd-unpack, into a temporary name, renamed when whole. Two
 * nodes on one storage do not unpack at once: basefs/lock.NAME is held meanwhile. */

#include "node/node.h"
#include "node/storage/purge.h"

struct images;

struct image_settings {
    const char *images, *basefs; /* folders */
    const char *unpacker;        /* path of qvd-unpack */
    uint64_t max_bytes, max_entries;
    node_log_fn *log;
    void *log_arg;
};

typedef void image_progress_fn(void *arg, unsigned percent);
/* 0: basefs/NAME is there. -errno with err: the image is refused, and nothing is left of it. */
typedef void image_done_fn(void *arg, int result, const struct qvd_error *err);

must_check int images_new(struct ev_loop *loop, const struct image_settings *s, struct purge *purge,
                          struct images **ret);
/* A file name below the images' folder that may be used: no slash, not hidden. */
bool image_name_ok(const char *name);
/* Wants NAME unpacked. 1: it is there, no call follows; 0: done will be called once; -errno. */
must_check int image_want(struct images *im, const char *name, image_progress_fn *progress,
                          image_done_fn *done, void *arg, struct qvd_error *err);
/* No call for this arg any more; the unpacking goes on. */
void image_unwant(struct images *im, const void *arg);
/* What an unpacking that was cut off left, where no other node is at it. */
void image_sweep(struct images *im);
/* Ends an unpacking. */
struct images *images_free(struct images *im);
