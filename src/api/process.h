// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The three processes of qvd-api (ipc/api-msg.h); main.c chooses. Each runs until its end and
 * returns the exit status. */

#include "conf/conf.h"

#define API_CHANNEL_FD 3 /* of the server to its master, of the copier to both in turn */

/* conf_file: what the children are given; NULL: the default. */
int api_master(struct conf *conf, const char *conf_file);
/* Descriptors 4 ... 3 + n are the listening sockets. */
int api_serve(struct conf *conf, size_t n_listeners);
int api_copy(const struct conf *conf);

/* Prints docs/api.md. */
int api_print_doc(void);

/* A name that is a file's within its folder: not empty, no '/', not "." or "..", no control
 * characters, at most API_FILE_MAX bytes and UTF-8. */
bool api_file_name_ok(const char *name);
/* The same for a file of the images folder: "<number>-<name>". */
bool api_image_name_ok(const char *name);
