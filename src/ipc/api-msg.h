// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What qvd-api's processes tell each other. Types 160 to 169. The master (root) holds files and
 * starts processes; the server (no rights) speaks with the world and the database; a copier brings
 * one image in. */

#include "ipc/codec.h"

#define API_FILE_MAX 200  /* a file's name */
#define API_SHA256_LEN 64 /* hex */

/* master -> server: a channel to a new qvd-authd (fd). */
struct api_authd {
    bool again; /* not the first */
};
/* master -> server: the certificate and then the key, opened (fd); a pair replaces the former. */
struct api_tls {
    bool key;
};
/* server -> master, master -> copier: file of the staging folder becomes name in the images
 * folder. */
struct api_copy {
    uint64_t di;
    const char *file, *name;
};
/* master -> server: the channel (fd) of the copier that does it. */
struct api_copier {
    uint64_t di;
};
/* copier -> server. */
struct api_progress {
    uint64_t done, total; /* bytes */
};
/* copier -> server: the end. ok false: text tells why, and nothing was left behind. */
struct api_copied {
    bool ok;
    uint64_t size;
    const char *sha256, *text;
};
/* server -> master: an image's file is of no more use. */
struct api_remove {
    const char *name;
};
/* server -> master: requests are taken. */
struct api_ready {
    bool ready;
};

extern const struct ipc_message api_authd_msg, api_tls_msg, api_copy_msg, api_copier_msg,
    api_progress_msg, api_copied_msg, api_remove_msg, api_ready_msg;
