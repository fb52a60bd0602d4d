// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Giving up capabilities for good. kept: numbers of linux/capability.h, ended by -1. Without root
 * there is nothing to give up: 0. Else 0, or -errno with err. */

#include "base/error.h"

/* What programs started from now on may have at most. Takes nothing from this process. */
must_check int caps_keep_bounding(const int *kept, struct qvd_error *err);
/* What this process has itself; inheritable and ambient ones go whole. */
must_check int caps_keep_own(const int *kept, struct qvd_error *err);
/* Both. */
must_check int caps_keep(const int *kept, struct qvd_error *err);
