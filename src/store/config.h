// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The settings that stand in the database: table configs, over the files. */

#include "store/store.h"

struct conf;

/* r: 0 the rows are in conf; -errno with err, conf is as before. */
typedef void store_config_done(void *arg, int r, const struct qvd_error *err);

/* Reads all rows and puts them into conf (conf_set_rows(); its change callback is called). To be
 * asked at start, whenever the channel STORE_CHANNEL_CONFIG speaks, and after each reconnect of
 * LISTEN. conf must outlive the request. */
must_check struct db_request *store_config_load(struct db *db, struct conf *conf,
                                                store_config_done *done, void *arg);
