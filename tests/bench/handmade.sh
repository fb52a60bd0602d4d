#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# A desktop by hand, as fast as the parts allow: no database, no TLS, no accounts. It takes the steps
# that QVD takes (overlay, veth, container, a home from the skeleton, nxagent, nxproxy) on the same
# image, shows the same desktop with the same shell in it, and waits for nothing but what the next
# step needs. Runs inside a farm's namespaces.
#
#   handmade.sh start N BASE DISPLAY    overlay on BASE, container, nxagent, nxproxy on DISPLAY
#   handmade.sh suspend N               ends nxproxy; returns once nxagent has suspended
#   handmade.sh resume N DISPLAY        wakes nxagent, nxproxy on DISPLAY
#   handmade.sh stop N                  ends and removes it
set -eu

action=$1
n=$2
dir=/var/lib/qvd/hand-$n
name=hand$n
user=1000

# What the first process runs: nxagent, and the image's desktop once somebody looks at it.
write_inside() {
    cat >"$1/hand" <<'END'
#!/bin/sh
ip link set lo up
mkdir -p /tmp/.X11-unix
chmod 1777 /tmp /tmp/.X11-unix
exec setpriv --reuid=1000 --regid=1000 --clear-groups /hand-user
END
    cat >"$1/hand-user" <<'END'
#!/bin/sh
export HOME=/home/hand USER=hand LOGNAME=hand LANG=C.UTF-8 DISPLAY=:100 NX_CLIENT=/bin/true
cd
echo 'nx/nx,tolerancechecks=bypass,link=lan,pack=nopack:100' >options
{ nxagent :100 -ac -nolisten tcp -name hand -display nx/nx,options=/home/hand/options:100 2>&1 &
  echo $! >pid; wait; } | while read -r line; do
    case $line in
    *'Waiting for connection'*) echo listening >/hand-fifo ;;
    *'Session suspended'*) echo suspended >/hand-fifo ;;
    *'Session started'*) /usr/lib/qvd/x-session >/dev/null 2>&1 & ;;
    esac
done
END
    chmod 755 "$1/hand" "$1/hand-user"
    mkdir -p "$1/home" "$1/etc"
    cp -r "$base/etc/skel" "$1/home/hand"
    mkfifo -m 666 "$1/hand-fifo"
    chown -R $user:$user "$1/home/hand"
    { cat "$base/etc/passwd"; echo "hand:x:$user:$user::/home/hand:/bin/bash"; } >"$1/etc/passwd"
}

hear() {
    read -r word <"$dir/root/hand-fifo"
    [ "$word" = "$1" ] || { echo "handmade: heard $word instead of $1" >&2; exit 1; }
}

proxy() {
    rm -rf "$dir/proxy"
    mkdir -m 700 "$dir/proxy"
    NX_CLIENT=/bin/true HOME="$dir/proxy" DISPLAY=$1 nxproxy -S \
        "nx/nx,connect=tcp:10.77.$n.2:4100,root=$dir/proxy,id=hand:40" >"$dir/proxy.log" 2>&1 &
    echo $! >"$dir/proxy.pid"
}

start() {
    base=$1
    mkdir -p "$dir/upper" "$dir/work" "$dir/root" /var/lib/qvd/hand
    write_inside "$dir/upper"
    mount -t overlay overlay -o "lowerdir=$base,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
    ip link add "hand$n" type veth peer name "inside$n"
    ip address add "10.77.$n.1/24" dev "hand$n"
    ip link set "hand$n" up
    cat >"$dir/config" <<END
lxc.uts.name = $name
lxc.rootfs.path = dir:$dir/root
lxc.init.cmd = /hand
lxc.autodev = 1
lxc.pty.max = 1024
lxc.tty.max = 0
lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed
lxc.mount.entry = tmpfs tmp tmpfs nosuid,nodev,mode=1777 0 0
lxc.mount.entry = tmpfs run tmpfs nosuid,nodev,mode=0755 0 0
lxc.apparmor.profile = unconfined
lxc.net.0.type = phys
lxc.net.0.link = inside$n
lxc.net.0.name = eth0
lxc.net.0.flags = up
lxc.net.0.ipv4.address = 10.77.$n.2/24
lxc.net.0.ipv4.gateway = 10.77.$n.1
END
    lxc-start -F -P /var/lib/qvd/hand -n "$name" -f "$dir/config" -o "$dir/lxc.log" \
        >"$dir/console" 2>&1 </dev/null &
    echo $! >"$dir/lxc.pid"
    hear listening
    proxy "$2"
}


case $action in
start) start "$3" "$4" ;;
suspend)
    kill -9 "$(cat "$dir/proxy.pid")"
    hear suspended
    ;;
resume)
    # nxagent is the first child of its shell; its pid inside is known.
    lxc-attach -P /var/lib/qvd/hand -n "$name" -- kill -HUP "$(cat "$dir/upper/home/hand/pid")"
    hear listening
    proxy "$3"
    ;;
stop)
    kill -9 "$(cat "$dir/proxy.pid")" 2>/dev/null || true
    lxc-stop -k -P /var/lib/qvd/hand -n "$name" 2>/dev/null || true
    ip link delete "hand$n" 2>/dev/null || true
    umount "$dir/root"
    rm -rf "$dir"
    ;;
*)
    sed -n '4,13s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
