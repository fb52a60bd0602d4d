// SPDX-License-Identifier: GPL-3.0-or-later
/* The table of verbs. */
#include "qa/qa.h"

const struct qa_verb qa_verbs[] = {
    {"add",                                        "di", "path=FILE osf=NAME [version=V] [tags=...]",
     "Registers a file of the staging folder as an image", qa_add_di},
    {"add", "host osf user vm", "key=value ...", "Adds one", qa_add},
    {"list",                                   "host osf di user vm", "[-f FILTER] [--fields a,b] [--sort a,-b]", "Lists them",
     qa_list},
    {"show",                                        "host osf di user vm", "[-f FILTER]", "Shows all that is known of them", qa_show},
    {"edit",                             "host osf di user vm", "-f FILTER key=value ...", "Changes them", qa_edit},
    {"del",                                      "host osf di user vm", "-f FILTER", "Deletes them", qa_del},
    {"block",                                       "host di user vm", "-f FILTER", "Takes them out of use", qa_act},
    {"unblock",  "host di user vm", "-f FILTER", "Puts them back into use", qa_act},
    {"start",                                      "vm", "-f FILTER [--wait]", "Starts them", qa_act},
    {"stop",                                       "vm", "-f FILTER [--wait]", "Stops them", qa_act},
    {"disconnect_user",                               "vm", "-f FILTER", "Ends the sessions in them", qa_act},
    {"disconnect",                                     "vm", "-f FILTER", "The same", qa_act},
    {"counters",                                       "host vm", "[-f FILTER]", "Shows their counters", qa_counters},
    {"tag",                   "di", "di_id=N tag=WORD", "Gives the image the tag, from the one that had it", qa_tag},
    {"untag",                                     "di", "di_id=N tag=WORD", "Takes the tag away", qa_tag},
    {"passwd",                                        "user", "user=LOGIN [-f tenant=NAME]",
     "Sets a password: asks, or takes a line of stdin", qa_passwd},
    {"get",                                 "config", "[KEY ...]", "Prints settings", qa_config_get},
    {"list",                                      "config", "[KEY ...]", "The same", qa_config_get},
    {"set",                                      "config", "KEY=VALUE ...", "Sets them for the whole farm", qa_config_set},
    {"del",                                 "config", "KEY ...", "Puts them back to their defaults", qa_config_del},
    {"ssl",                                      "config", "key=FILE cert=FILE [ca=FILE] [crl=FILE]", "Sets the certificate of the L7Rs",
     qa_config_ssl},
    {0                                   },
};
