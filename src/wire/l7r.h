// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What clients and qvd-l7r say to each other: paths, header names and JSON shapes, the original's
 * (docs/protocol.md). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define WIRE_L7R_PORT 8443
#define WIRE_L7R_PING "/qvd/ping"
#define WIRE_L7R_LIST_VM "/qvd/list_of_vm"
#define WIRE_L7R_LIST_APP "/qvd/list_of_applications"
#define WIRE_L7R_AUTHENTICATE "/qvd/authenticate_user"
#define WIRE_L7R_TOKEN "/qvd/create_auth_token"
#define WIRE_L7R_CONNECT "/qvd/connect_to_vm"
#define WIRE_L7R_STOP "/qvd/stop_vm"

#define WIRE_L7R_UPGRADE "QVD/1.0"
#define WIRE_L7R_REALM "Basic realm=\"QVD\""
/* Header names exactly so: clients compare them with their case (l7r-protocol 10). */
#define WIRE_L7R_INFO "X-QVD-VM-Info"
#define WIRE_L7R_SLAVE_KEY "X-QVD-Slave-Key"
#define WIRE_L7R_SLAVE_KEY_LEN 64 /* alphanumerics */
/* With the 101: the session's number, for WIRE_L7R_RESUME. */
#define WIRE_L7R_SESSION "X-QVD-Session"
/* Parameters of connect_to_vm: the session that broke off and is to go on, or whose end is only
 * asked about. Answered by 409 (taken over) or 410 (ended for good); without those, resume goes on
 * as a connect. Sessions of the same User-Agent are one client's. */
#define WIRE_L7R_RESUME "qvd.client.resume"
#define WIRE_L7R_ENDED "qvd.client.ended"
/* The name is followed by the hex of the variable's name; the value is base64. */
#define WIRE_L7R_ENV_PREFIX "Auth-"
#define L7R_ENV_NAME_MAX 128 /* bytes of a name */

/* Texts of 102s, in their order. */
#define WIRE_L7R_TEXT_SESSION "Session acquired"
#define WIRE_L7R_TEXT_ASSIGN "Assigning VM"
#define WIRE_L7R_TEXT_START "Starting virtual machine"
#define WIRE_L7R_TEXT_WAIT_VM "Waiting for VM to reach state"
#define WIRE_L7R_TEXT_START_X "Starting X session"
#define WIRE_L7R_TEXT_WAIT_X "Waiting for X session"
#define WIRE_L7R_TEXT_CONNECT_X "Connecting X session"
#define WIRE_L7R_TEXT_DONE "Connection established"

/* Whether a client may send this key to connect_to_vm (besides id): begins with qvd.client. or
 * custom. */
bool wire_l7r_client_key(const char *name);
/* The word for a link: modem isdn adsl wan lan local stay, a rate ("56k", "1m", "2500000": bits a
 * second) becomes the word whose speed it has. NULL: neither. */
const char *wire_l7r_link(const char *link);

/* An item of list_of_vm and list_of_applications. */
struct wire_vm {
    uint64_t id;
    char state[17]; /* stopped, starting, running, stopping, zombie */
    char name[257];
    bool blocked;
    bool is_application;
};
#define WIRE_VM_LIST_MAX 10000

/* The JSON array (free it); NULL when out of memory. */
must_check char *wire_vm_list_format(const struct wire_vm *vms, size_t n);
/* Reads it: 0 and *ret_vms (free it; NULL when there are none), -EBADMSG, -ENOMEM. Takes blocked
 * and is_application as numbers, booleans or null, id as number or text. */
must_check int wire_vm_list_parse(const char *json, size_t len, struct wire_vm **ret_vms,
                                  size_t *ret_n);

/* Answers of authenticate_user and create_auth_token; token is plain here, base64 with a trailing
 * newline on the wire. */
struct wire_token {
    uint64_t auth_params_id; /* 0: none told */
    char token[257];         /* "": none told */
};
must_check char *wire_token_format(const struct wire_token *t);
/* 0, -EBADMSG, -ENOMEM. */
must_check int wire_token_parse(const char *json, size_t len, struct wire_token *ret);
