// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What the next monitor must know should this one die: kept in a file of root's below /run, written
 * at each change of state. */

#include "vma/agent.h"
#include "vma/nx.h"
#include "vma/user.h"
#include "wire/vma.h"

struct session_saved {
    enum nx_state state;
    bool hup_out, stream_lost;
    unsigned depth; /* of the display it was begun on; 0: unknown */
    struct user user;
    struct agent_saved agent;
    struct wire_params *params; /* read: yours to free */
};

/* 0 or -errno. */
must_check int session_file_write(const char *path, const struct session_saved *saved);
/* 0; -ENOENT: none; -EBADMSG: not of this form; -errno. */
must_check int session_file_read(const char *path, struct session_saved *ret_saved);
