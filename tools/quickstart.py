# SPDX-License-Identifier: GPL-3.0-or-later
"""The quickstart: builds what is missing, starts a farm in namespaces, makes a user and a desktop."""

import argparse
import contextlib
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import time

from qvdfarm import build
from qvdfarm.farm import Farm, FarmError, lock_owner, new_password

TOP = build.TOP
CACHE = os.path.join(TOP, 'build', 'cache')
# What this command and ./check keep there; nothing else is removed.
CACHED = ('debs', 'image-debs', 'images', 'ccache')
MEMORY = {'minimal': 512, 'xfce': 1024}
START_LIMIT = 300

# The launcher's clock began before packages were installed.
BEGAN = float(os.environ.get('QVD_QUICKSTART_BEGAN', '').replace(',', '.') or time.time())


def say(text):
    print(f'[{time.time() - BEGAN:6.1f} s] {text}', flush=True)


def read_credentials(folder):
    values = {}
    with contextlib.suppress(FileNotFoundError):
        with open(os.path.join(folder, 'credentials'), encoding='utf-8') as f:
            for line in f:
                key, _, value = line.rstrip('\n').partition('=')
                values[key] = value
    return values


def write_credentials(farm, password, image):
    path = farm.path('credentials')
    lines = {'l7r': f'{farm.address}:{farm.l7r_port}',
             'api': f'https://{farm.address}:{farm.api_port}', 'ca': farm.path('ca.pem'),
             'user': 'demo', 'password': password, 'admin': 'admin',
             'admin_password': farm.admin_password, 'image': image}
    with open(path + '.new', 'w', encoding='utf-8', opener=lambda p, flags: os.open(p, flags,
                                                                                   0o600)) as f:
        f.writelines(f'{key}={value}\n' for key, value in lines.items())
    # Who called sudo shall be able to read it.
    if os.environ.get('SUDO_UID', '').isdigit():
        os.chown(path + '.new', int(os.environ['SUDO_UID']), int(os.environ['SUDO_GID']))
    os.replace(path + '.new', path)


class Quickstart:
    def __init__(self, args):
        self.args = args
        self.farm = None

    # -- up ---------------------------------------------------------------------------------

    def up(self):
        folder = self.args.dir
        if lock_owner(folder):
            say(f'already running, in {folder}')
            self.tell(folder)
            return
        self.choose_image()
        image, tree = self.build()
        os.makedirs(folder, exist_ok=True)
        shutil.rmtree(os.path.join(folder, 'tree'), ignore_errors=True)
        self.farm = Farm(folder, tree, l7r_port=self.args.l7r_port, api_port=self.args.api_port,
                         nat=self.args.nat)
        try:
            self.start(image)
        except BaseException:
            # The logs stay for who wants to know why; nothing keeps running.
            self.farm.stop()
            raise
        say(f'the desktop can be reached; time to the first desktop: {time.time() - BEGAN:.1f} s')
        self.tell(folder)

    def choose_image(self):
        """Looks at what an earlier run left: goes on with it, or removes what is not complete."""
        folder = self.args.dir
        if not os.path.isdir(folder) or not os.listdir(folder):
            self.args.image = self.args.image or 'xfce'
            return
        if not os.path.exists(os.path.join(folder, 'supervisor.json')):
            raise FarmError(f'{folder} is not empty and not mine; give another --dir')
        earlier = read_credentials(folder).get('image')
        if not earlier:
            say(f'{folder}: removing what an earlier run left')
            Farm(folder, None).destroy()
            self.args.image = self.args.image or 'xfce'
            return
        if self.args.image not in (None, earlier):
            raise FarmError(f'{folder} has a desktop from the image {earlier}; end it first '
                            '(./quickstart --down) or give another --dir')
        self.args.image = earlier
        say(f'going on with the desktop in {folder}')

    def build(self):
        """The programs and the image; the base image is made while the compiler runs."""
        command = [os.path.join(TOP, 'images', 'build'), self.args.image]
        base = subprocess.Popen([*command, '--base-only'], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            say('compiling, and making the base of the image')
            tree = build.install_tree(lambda text: None)
            say('programs installed in ' + os.path.relpath(tree, TOP))
            out, _ = base.communicate()
        except BaseException:
            base.terminate()
            base.wait()
            raise
        if base.returncode != 0:
            raise FarmError(out.strip())
        image = os.path.join(TOP, 'build', 'images', f'{self.args.image}.tar.zst')
        os.makedirs(os.path.dirname(image), exist_ok=True)
        done = subprocess.run([*command, '--vma', tree, '--out', image], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        if done.returncode != 0:
            raise FarmError(done.stdout.strip())
        say(f'image {os.path.relpath(image, TOP)}: {os.path.getsize(image) >> 20} MiB')
        return image, tree

    def start(self, image):
        farm, name = self.farm, self.args.image
        farm.create()
        say('namespaces and network ready')
        farm.init_database()
        say('PostgreSQL runs, schema installed')
        for service in ('api', 'hkd', 'l7r'):
            farm.start_service(service)
        say('qvd-api, qvd-hkd and qvd-l7r run')
        password = read_credentials(farm.dir).get('password')
        if not password:
            password = new_password()
            farm.qa('host', 'add', f'name={farm.nodename}', f'address={farm.address}')
            farm.qa('osf', 'add', f'name={name}', f'memory={MEMORY[name]}',
                    'user_storage_size=1024')
            staged = farm.add_image(image)
            farm.qa('di', 'add', f'path={staged}', f'osf={name}')
            farm.qa('user', 'add', 'login=demo', f'password={password}')
            farm.qa('vm', 'add', 'name=demo', 'user=demo', f'osf={name}')
            say('node, image, user and desktop registered; starting the desktop')
        write_credentials(farm, password, name)
        farm.qa('vm', 'start', '-f', 'name=demo')
        self.wait_for_desktop()

    def wait_for_desktop(self):
        """Until the desktop's own agent has answered, with a line when the state changes."""
        told = None
        deadline = time.monotonic() + START_LIMIT
        while True:
            row = self.farm.psql(
                "SELECT r.vm_state, r.blocked, coalesce(r.blocked_reason, '') FROM vm_runtimes r "
                "JOIN vms v ON v.id = r.vm_id WHERE v.name = 'demo'")[0]
            if row[0] != told:
                told = row[0]
                say(f'desktop: {told}')
            if told == 'running':
                return
            if row[1] == 't':
                raise FarmError(f'the desktop did not start: {row[2]}\n'
                                + self.farm.log_tail('hkd', 15))
            if time.monotonic() > deadline:
                raise FarmError(f'the desktop does not run after {START_LIMIT} s\n'
                                + self.farm.log_tail('hkd', 15))
            time.sleep(0.1)

    # -- telling and connecting -------------------------------------------------------------

    @staticmethod
    def tell(folder):
        values = read_credentials(folder)
        if not values:
            raise FarmError(f'{folder}/credentials is missing; run ./quickstart --down first')
        option = '' if folder == default_dir() else f' --dir {folder}'
        server, _, port = values['l7r'].rpartition(':')
        print(f'''
Your desktop is served at {values['l7r']}. To see it, on a machine with a display:

    sudo ./quickstart{option} --connect

or with a QVD client of your own: server {server}, port {port}, user {values['user']},
password {values['password']} (also in {folder}/credentials).

Administration: sudo ./quickstart{option} --qa vm list
End, removing everything: sudo ./quickstart{option} --down
''', flush=True)

    def client_process(self):
        """The client as the person who called sudo, not as root."""
        folder = self.args.dir
        values = read_credentials(folder)
        env = dict(os.environ, QVD_CA=values['ca'], QVDPASSWORD=values['password'])
        command = [os.path.join(folder, 'tree/usr/bin/qvdclient')]
        uid = os.environ.get('SUDO_UID', '')
        if uid.isdigit() and uid != '0':
            person = pwd.getpwuid(int(uid))
            env['HOME'] = person.pw_dir
            command = ['setpriv', f'--reuid={uid}', f'--regid={person.pw_gid}', '--init-groups',
                       '--', *command]
        server, _, port = values['l7r'].rpartition(':')
        return [*command, '-h', server, '-p', port, '-u', values['user']], env

    def connect(self):
        if not os.environ.get('DISPLAY'):
            raise FarmError('--connect: DISPLAY is not set; call me from a graphical session')
        command, env = self.client_process()
        say('connecting; close the window to disconnect, the desktop goes on')
        return subprocess.run(command, env=env, check=False).returncode

    def qa(self):
        values = read_credentials(self.args.dir)
        if not values or not lock_owner(self.args.dir):
            raise FarmError('nothing runs; start it with ./quickstart')
        env = dict(os.environ, QA_URL=values['api'], QA_LOGIN=values['admin'], QA_TENANT='*',
                   QA_PASSWORD=values['admin_password'], QA_CA=values['ca'])
        qa = os.path.join(self.args.dir, 'tree/usr/bin/qa')
        return subprocess.run([qa, *self.args.qa], env=env, check=False).returncode

    # -- the end ----------------------------------------------------------------------------

    def down(self):
        folder = self.args.dir
        if not os.path.isdir(folder):
            say(f'{folder}: nothing there')
            return
        if not os.path.exists(os.path.join(folder, 'supervisor.json')):
            raise FarmError(f'{folder} is not the folder of a quickstart')
        Farm(folder, None).destroy()
        say(f'ended; {folder} removed')

    def purge(self):
        self.down()
        for name in CACHED:
            shutil.rmtree(os.path.join(CACHE, name), ignore_errors=True)
        for name in ('images', 'release', 'release.lock'):
            path = os.path.join(TOP, 'build', name)
            if os.path.isdir(path):
                shutil.rmtree(path)
            elif os.path.exists(path):
                os.unlink(path)
        with contextlib.suppress(OSError):
            os.rmdir(CACHE)
        say('cached packages and images removed')

    def wait(self):
        """--foreground: until the farm ends or somebody asks for its end."""
        pid = lock_owner(self.args.dir)
        if not pid:
            return
        say('in the foreground; Ctrl-C ends everything')
        fd = os.pidfd_open(pid)
        try:
            select.select([fd], [], [])
        except (KeyboardInterrupt, SystemExit):
            print()
        finally:
            os.close(fd)
        self.down()


def default_dir():
    return os.path.join(TOP, 'build', 'demo')


def parse():
    parser = argparse.ArgumentParser(
        prog='quickstart', description='Serves a desktop on this machine: builds QVD and an '
        'image, starts everything in private namespaces, and tells how to connect.')
    parser.add_argument('--image', choices=sorted(MEMORY),
                        help='the desktop (default: xfce)')
    parser.add_argument('--dir', default=default_dir(), metavar='DIR',
                        help='where all state is kept (default: build/demo)')
    parser.add_argument('--l7r-port', type=int, default=8443, metavar='PORT',
                        help='port for clients (default: 8443)')
    parser.add_argument('--api-port', type=int, default=3000, metavar='PORT',
                        help='port of the API (default: 3000)')
    parser.add_argument('--nat', action='store_true',
                        help='the desktop reaches what this machine reaches (by slirp4netns; '
                        'without it, nothing beyond its own network)')
    parser.add_argument('--connect', action='store_true',
                        help='open the desktop on the present X display')
    parser.add_argument('--foreground', action='store_true',
                        help='stay; Ctrl-C ends everything')
    parser.add_argument('--down', action='store_true',
                        help='end everything and remove DIR')
    parser.add_argument('--purge', action='store_true',
                        help='--down, and remove the cached packages and images')
    parser.add_argument('--qa', nargs=argparse.REMAINDER, metavar='ARG',
                        help='run the administration tool (last option): --qa vm list')
    args = parser.parse_args()
    args.dir = os.path.abspath(args.dir)
    for port in (args.l7r_port, args.api_port):
        if not 1 <= port <= 65535:
            parser.error(f'port {port}: must be from 1 to 65535')
    return args


def main():
    args = parse()
    os.umask(0o022)
    # An end by these must run the clean-up of `up`, as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(130))
    quick = Quickstart(args)
    try:
        if args.purge:
            quick.purge()
        elif args.down:
            quick.down()
        elif args.qa is not None:
            return quick.qa()
        else:
            quick.up()
            status = quick.connect() if args.connect else 0
            if args.foreground:
                quick.wait()
            return status
    except (FarmError, build.BuildFailed, OSError) as error:
        print(f'quickstart: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
