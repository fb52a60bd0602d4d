// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* nxagent's options file from the client's wishes: an allow-list, as the client is a stranger and
 * some options name programs, files or sockets. Pure. */

#include "base/buf.h"
#include "conf/conf.h"
#include "wire/vma.h"

/* Told for each wish that is left out. */
typedef void options_dropped_fn(void *arg, const char *name, const char *why);

/* Appends "nx/nx,...:DISPLAY\n" to out. resumed: for a desktop that lives on. 0, -ENOBUFS, -ENOMEM.
 */
must_check int options_write(const struct conf *conf, const struct wire_params *params,
                             unsigned display, bool resumed, struct buf *out,
                             options_dropped_fn *dropped, void *arg);

/* Sets what printing hooks are told: qvd.printing.enabled, qvd.printing.port. 0, -ENOBUFS, -ENOMEM.
 */
must_check int options_tell_hooks(const struct conf *conf, struct wire_params *params);
