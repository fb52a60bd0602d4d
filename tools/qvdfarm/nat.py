# SPDX-License-Identifier: GPL-3.0-or-later
"""A way out for a farm that changes nothing on the host: slirp4netns, a process of the host's network
that speaks for the farm as any program speaks."""

import os
import select
import shutil
import subprocess

DEVICE = 'out0'
RESOLVER = '10.0.2.3'      # slirp4netns's own; it asks the name servers of the host
PATIENCE = 10


def start(pid, exit_fd, log_path, env):
    """Makes DEVICE in the network of that process, with a route. Ends when the other end of exit_fd
    is closed. Returns None, or what went wrong."""
    program = shutil.which('slirp4netns', path=env['PATH'])
    if not program:
        return 'slirp4netns is missing; install the package of that name'
    ready, told = os.pipe2(os.O_CLOEXEC)
    with open(log_path, 'ab') as log:
        process = subprocess.Popen(
            [program, '--configure', '--mtu=1500', '--disable-host-loopback', '--enable-sandbox',
             '--enable-seccomp', f'--exit-fd={exit_fd}', f'--ready-fd={told}', str(pid), DEVICE],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd='/', env=env,
            pass_fds=[exit_fd, told], start_new_session=True)
    os.close(told)
    try:
        if select.select([ready], [], [], PATIENCE)[0] and os.read(ready, 1):
            return None
    finally:
        os.close(ready)
    process.kill()
    process.wait()
    with open(log_path, encoding='utf-8', errors='replace') as f:
        return f'slirp4netns gives no way out: {f.read()[-500:].strip()}'
