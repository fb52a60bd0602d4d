# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder in memory for farms and images: making and removing a farm of it on a disk takes longer
than most tests. The mount is in a namespace of this process, so nothing of it can stay."""

import atexit
import contextlib
import ctypes
import os
import subprocess
import tempfile

CLONE_NEWNS = 0x20000
NEEDED = 8 << 30


def available():
    """Bytes of memory that may be used."""
    with open('/proc/meminfo', encoding='ascii') as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith('MemAvailable:'))


@contextlib.contextmanager
def in_memory(folder):
    """What is put into that folder is kept in memory, where there is enough. For root, and before
    there are threads."""
    if os.geteuid() != 0 or available() < NEEDED:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), 'unshare(CLONE_NEWNS)')
    subprocess.run(['mount', '--make-rprivate', '/'], check=True)
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', folder], check=True)
    try:
        yield
    finally:
        subprocess.run(['umount', '--lazy', folder], check=True)


def for_this_process():
    """Unless somebody has set QVD_TEST_DIR: a folder in memory for as long as we live."""
    if 'QVD_TEST_DIR' not in os.environ:
        # Not below /var: that of a farm is an overlay, which hides what is mounted there.
        folder = tempfile.mkdtemp(prefix='qvd-tests-', dir='/tmp')
        os.chmod(folder, 0o755)
        atexit.register(os.rmdir, folder)
        memory = in_memory(folder)
        memory.__enter__()
        atexit.register(memory.__exit__, None, None, None)
        os.environ['QVD_TEST_DIR'] = folder
