// SPDX-License-Identifier: GPL-3.0-or-later
/* Feeds each file of the folders named on the command line to the fuzz target it is linked with, so
 * that the seeds are an ordinary test. Fails when there are fewer than 30. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    size_t len = 0, size = 1 << 20;
    uint8_t *all = malloc(size);

    if (!f || !all) {
        fprintf(stderr, "%s: cannot be read\n", path);
        return -1;
    }
    len = fread(all, 1, size, f);
    fclose(f);
    /* A copy of just that size, so that a sanitizer sees each byte read too far. */
    uint8_t *data = malloc(len ? len : 1);
    if (!data)
        return -1;
    memcpy(data, all, len);
    free(all);
    LLVMFuzzerTestOneInput(data, len);
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    int count = 0, bad = 0;

    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        if (!dir) {
            perror(argv[i]);
            return 1;
        }
        for (struct dirent *e; (e = readdir(dir));) {
            char path[4096];
            if (e->d_name[0] == '.')
                continue;
            snprintf(path, sizeof path, "%s/%s", argv[i], e->d_name);
            bad += replay_file(path) < 0;
            count++;
        }
        closedir(dir);
    }
    printf("%d seeds, %d unreadable\n", count, bad);
    return bad || count < 30;
}
