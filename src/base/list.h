// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Intrusive doubly linked list. A head is a node of its own; a node in no list points to itself. */

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *prev, *next;
};

#define QVD_LIST_INIT(name)                                                                        \
    {                                                                                              \
        &(name), &(name)                                                                           \
    }
#define QVD_CONTAINER(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* Walks; the current entry may be removed and freed inside. */
#define QVD_LIST_FOREACH(entry, head, type, member)                                                \
    for (type *entry = QVD_CONTAINER((head)->next, type, member),                                  \
              *entry##_next = QVD_CONTAINER(entry->member.next, type, member);                     \
         &entry->member != (head);                                                                 \
         entry = entry##_next, entry##_next = QVD_CONTAINER(entry->member.next, type, member))

static inline void list_init(struct list *l)
{
    l->prev = l->next = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

/* At the end of head's list; the node must be in no list. */
static inline void list_append(struct list *head, struct list *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

/* Harmless for a node that is in no list (but was initialised). */
static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}
