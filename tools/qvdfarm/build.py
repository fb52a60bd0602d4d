# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the programs and installs them into a folder, as a package would."""

import fcntl
import os
import shutil
import subprocess

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class BuildFailed(Exception):
    pass


def _run(command, env=None):
    done = subprocess.run(command, cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors='replace', env=env,
                          check=False)
    if done.returncode != 0:
        tail = '\n'.join(done.stdout.splitlines()[-40:])
        raise BuildFailed(f'{" ".join(command)} ended with status {done.returncode}:\n{tail}')
    return done.stdout


def install_tree(say=print, build='build/release', options=('--buildtype=release', '-Dtests=false')):
    """meson setup, compile and install; returns the DESTDIR. Quick when nothing has changed."""
    folder = os.path.join(TOP, build)
    destdir = os.path.join(folder, 'destdir')
    os.makedirs(os.path.join(TOP, 'build'), exist_ok=True)
    # /usr/bin first: Debian's meson, not one of a user's own Python.
    env = dict(os.environ, PATH='/usr/bin:/bin:/usr/sbin:/sbin:' + os.environ.get('PATH', ''),
               CCACHE_DIR=os.environ.get('CCACHE_DIR', os.path.join(TOP, 'build/cache/ccache')))
    lock_path = os.path.join(TOP, 'build', os.path.basename(build) + '.lock')
    with open(lock_path, 'w', encoding='utf-8') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(os.path.join(folder, 'build.ninja')):
            _run(['meson', 'setup', folder, *options], env)
        say('building the programs')
        _run(['ninja', '-C', folder], env)
        fresh = destdir + '.new'
        shutil.rmtree(fresh, ignore_errors=True)
        _run(['meson', 'install', '-C', folder, '--no-rebuild', '--quiet', '--destdir', fresh], env)
        # What is running keeps its own copy (see farm.py); this one may be replaced.
        shutil.rmtree(destdir, ignore_errors=True)
        os.rename(fresh, destdir)
    return destdir
