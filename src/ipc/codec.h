// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Messages between our own processes as tables: a C struct, a row a field, a limit each.
 *
 * On the wire (one SOCK_SEQPACKET datagram, at most IPC_MAX bytes, host byte order as both ends are
 * on one machine): u16 version, u16 type, then the fields in the table's order: numbers as they
 * are, strings as u32 length, bytes, NUL; bytes as u32 length, bytes. Nothing may follow. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define IPC_VERSION 1
#define IPC_MAX 16384

enum ipc_field_type {
    IPC_BOOL,  /* bool */
    IPC_U32,   /* uint32_t */
    IPC_U64,   /* uint64_t */
    IPC_I64,   /* int64_t */
    IPC_STR,   /* const char *, never NULL after decoding (empty then); NULL is sent as "" */
    IPC_BYTES, /* struct ipc_bytes */
};

struct ipc_bytes {
    const void *data;
    size_t len;
};

struct ipc_field {
    const char *name;
    enum ipc_field_type type;
    size_t offset;
    uint64_t max; /* of a number: its largest value (0: any); of a string or bytes: its length */
};

/* A kind of message. fd: whether a descriptor travels with it (then always one). */
struct ipc_message {
    uint16_t type; /* one number space for all our channels: see the *-msg.h headers */
    bool fd;
    const char *name;
    size_t size; /* of the C struct */
    const struct ipc_field *fields;
    size_t n_fields;
};

/* struct S { ... }; static const struct ipc_field fields[] = { IPC_FIELD(struct S, id, IPC_U64, 0)
 * }; */
#define IPC_FIELD(s, member, type_, max_)                                                          \
    {                                                                                              \
#member, type_, offsetof(s, member), max_                                                  \
    }

/* Appends the datagram to out: 0; -EMSGSIZE (a field or the whole over its limit), -ENOMEM. */
must_check int ipc_encode(const struct ipc_message *m, const void *msg, struct buf *out);
/* The type of a datagram: 0, or -EBADMSG (too short or of another version). */
must_check int ipc_peek(const void *data, size_t len, uint16_t *ret_type);
/* Fills *ret_msg (m->size bytes); its strings and bytes point into data. 0, or -EBADMSG for
 * anything that is not exactly such a message. data need not be aligned. */
must_check int ipc_decode(const struct ipc_message *m, const void *data, size_t len, void *ret_msg);
