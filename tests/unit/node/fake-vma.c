// SPDX-License-Identifier: GPL-3.0-or-later
/* Stands in an image where the VMA would: says that it is there, and stays. */
#include <fcntl.h>
#include <unistd.h>

int main(void)
{
    int fd = open("/dev/.qvd/ready", O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, "ready\n", 6) != 6)
        return 1;
    close(fd);
    for (;;)
        pause();
}
