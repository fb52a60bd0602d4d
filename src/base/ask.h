// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Asking a person at the terminal. */

#include "base/cleanup.h"

#define ASK_LINE_MAX 4096

/* A line of stdin without its end, as a new string (wipe and free it); on a terminal after the
 * prompt on stderr, and without echo. NULL: no line, one of ASK_LINE_MAX bytes or more, a signal
 * (INT, TERM, HUP or QUIT; it is delivered once the terminal is as it was), or out of memory. Reads
 * byte by byte: what follows the line stays in stdin. */
must_check char *ask_secret(const char *prompt);
/* The same with echo; the prompt is always shown. */
must_check char *ask_text(const char *prompt);
