// SPDX-License-Identifier: GPL-3.0-or-later
/* qa(1) with its verbs from the table: for the build (--print-manual). */
#include <string.h>

#include "base/fs.h"
#include "qa/qa.h"

#define MARK "@VERBS@\n"

/* scdoc marks by these characters; after a backslash they stand for themselves. */
static void print_plain(const char *text)
{
    for (; *text; text++) {
        if (strchr("_*\\`[", *text) && *text != '[')
            putchar('\\');
        putchar(*text);
    }
}

static void print_verbs(void)
{
    for (const struct qa_verb *v = qa_verbs; v->name; v++) {
        fputs("*qa* ", stdout);
        for (const char *o = v->objects; *o; o++)
            putchar(*o == ' ' ? '|' : *o);
        fputs(" *", stdout);
        print_plain(v->name);
        fputs("* ", stdout);
        print_plain(v->args);
        fputs("\n\t", stdout);
        print_plain(v->text);
        fputs(".\n\n", stdout);
    }
}

int qa_print_manual(const char *path)
{
    _cleanup_(free_p) char *text = NULL;
    size_t len;
    int r = fs_read(path, 1 << 20, &text, &len);
    char *mark = r < 0 ? NULL : strstr(text, MARK);

    if (!mark) {
        fprintf(stderr, "qa: %s: %s\n", path, r < 0 ? strerror(-r) : "no line " MARK);
        return 1;
    }
    fwrite(text, 1, (size_t)(mark - text), stdout);
    print_verbs();
    fputs(mark + strlen(MARK), stdout);
    return fflush(stdout) == 0 ? 0 : 1;
}
