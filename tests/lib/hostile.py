#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hostile root tries in his VM. Copied into it and run there: `hostile.py ATTEMPT...` prints
one line an attempt: NAME ok (it worked) or NAME refused REASON."""

import ctypes
import errno
import os
import socket
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
ATTEMPTS = {}
MS_REMOUNT, MS_BIND = 32, 4096


def attempt(function):
    ATTEMPTS[function.__name__] = function
    return function


def call(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def syscall(number, *args):
    return call(libc.syscall(ctypes.c_long(number), *args))


def mount(source, target, fstype, flags=0, data=None):
    def raw(text):
        return text.encode() if text else None
    call(libc.mount(raw(source), raw(target), raw(fstype), ctypes.c_ulong(flags), raw(data)))


def write(path, text):
    with open(path, 'w', encoding='ascii') as f:
        f.write(text)


@attempt
def mount_disk():
    """A device of the host: neither made nor mounted."""
    os.makedirs('/tmp/disk', exist_ok=True)
    for major, minor in ((254, 0), (8, 0), (8, 1), (7, 0)):
        try:
            os.mknod('/tmp/disk.dev', 0o60600, os.makedev(major, minor))
        except OSError:
            continue
        mount('/tmp/disk.dev', '/tmp/disk', 'ext4')
    with open('/proc/partitions', encoding='ascii') as f:
        names = [line.split()[3] for line in f.read().splitlines()[2:]]
    for name in names:
        if os.path.exists('/dev/' + name):
            mount('/dev/' + name, '/tmp/disk', 'ext4')
            return
    raise OSError(errno.EPERM, 'no device')


@attempt
def mount_debugfs():
    mount('none', '/mnt', 'debugfs')


@attempt
def mount_securityfs():
    mount('none', '/mnt', 'securityfs')


@attempt
def mount_sysfs_writable():
    mount(None, '/sys', None, MS_REMOUNT | MS_BIND)
    write('/sys/kernel/uevent_helper', '/bin/true')


@attempt
def mount_proc_sys_writable():
    mount(None, '/proc/sys', None, MS_REMOUNT | MS_BIND)
    write('/proc/sys/kernel/core_pattern', '|/bin/true')


@attempt
def raise_limits():
    """Every limit that he can see, by every path that leads to a cgroup."""
    os.makedirs('/tmp/cg', exist_ok=True)
    for controller in ('memory', 'pids', None):
        try:
            mount('cgroup', '/tmp/cg', 'cgroup' if controller else 'cgroup2', 0, controller)
        except OSError:
            pass
    for top in ('/sys/fs/cgroup', '/tmp/cg', '/tmp/cg/..'):
        for folder, _, names in os.walk(top):
            for name in set(names) & {'memory.limit_in_bytes', 'memory.memsw.limit_in_bytes',
                                      'memory.max', 'pids.max'}:
                try:
                    write(os.path.join(folder, name), '8589934592')
                except OSError:
                    pass


@attempt
def reboot_kexec():
    syscall(246, 0, 0, 0, None, 0)  # kexec_load


@attempt
def module_load():
    syscall(175, b'\x7fELF', 4, b'')  # init_module


@attempt
def module_load_file():
    with open('/bin/sh', 'rb') as f:
        syscall(313, f.fileno(), b'', 0)  # finit_module


@attempt
def module_unload():
    syscall(176, b'veth', 0)


@attempt
def mknod_char():
    os.mknod('/tmp/mem', 0o20600, os.makedev(1, 1))


@attempt
def mknod_block():
    os.mknod('/tmp/vda', 0o60600, os.makedev(254, 0))


@attempt
def ptrace_outsider():
    """No process of the host is even seen; the highest pids are asked for too."""
    for pid in list(range(2, 400)) + [32000, 4000000]:
        if os.path.exists(f'/proc/{pid}'):
            continue
        if libc.ptrace(16, pid, None, None) == 0:  # PTRACE_ATTACH
            return
    raise OSError(errno.ESRCH, 'nobody there')


@attempt
def signal_outsider():
    with open('/proc/self/status', encoding='ascii') as f:
        status = f.read()
    if 'NSpid:' in status and len(status.split('NSpid:')[1].split('\n')[0].split()) > 1:
        return
    raise OSError(errno.ESRCH, 'nobody there')


@attempt
def write_sysctl():
    write('/proc/sys/kernel/panic', '1')


@attempt
def write_sysrq():
    write('/proc/sysrq-trigger', 'b')


@attempt
def write_sys():
    write('/sys/kernel/mm/transparent_hugepage/enabled', 'never')


@attempt
def write_forwarding_of_the_host():
    write('/proc/sys/kernel/hostname', 'owned')


@attempt
def read_kmsg():
    with open('/dev/kmsg', 'rb') as f:
        f.read(1)


@attempt
def read_kcore():
    with open('/proc/kcore', 'rb') as f:
        f.read(1)


@attempt
def raw_packet_socket():
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)).close()


@attempt
def raw_ip_socket():
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).close()


@attempt
def keyctl():
    syscall(250, 0, -3, 1)


@attempt
def add_key():
    syscall(248, b'user', b'name', b'value', 5, -3)


@attempt
def bpf():
    syscall(321, 0, bytes(64), 64)


@attempt
def perf_event():
    syscall(298, bytes(112), 0, -1, -1, 0)


@attempt
def open_by_handle():
    syscall(304, os.open('/', os.O_RDONLY), struct.pack('IIQ', 8, 1, 2), 0)


@attempt
def io_uring():
    syscall(425, 4, bytes(120))


@attempt
def userfaultfd():
    os.close(syscall(323, 0))


@attempt
def settime():
    import time
    time.clock_settime(time.CLOCK_REALTIME, 0)


@attempt
def chroot_out():
    """The old escape by a working directory outside of the root."""
    os.makedirs('/tmp/jail', exist_ok=True)
    fd = os.open('/', os.O_RDONLY)
    os.chroot('/tmp/jail')
    os.fchdir(fd)
    for _ in range(64):
        os.chdir('..')
    os.chroot('.')
    if not os.path.exists('/run/qvd/vm'):
        raise OSError(errno.ENOENT, 'still inside')


@attempt
def secret_write():
    write('/dev/.qvd/secret', 'x')


@attempt
def secret_remount():
    mount(None, '/dev/.qvd/secret', None, MS_REMOUNT | MS_BIND)
    write('/dev/.qvd/secret', 'x' * 32)


def main():
    for name in sys.argv[1:] or ATTEMPTS:
        pid = os.fork()  # chroot and limits must not last
        if pid == 0:
            try:
                ATTEMPTS[name]()
                print(name, 'ok', flush=True)
            except OSError as e:
                print(name, 'refused', errno.errorcode.get(e.errno, e.errno), flush=True)
            os._exit(0)
        os.waitpid(pid, 0)


if __name__ == '__main__':
    main()
