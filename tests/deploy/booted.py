"""A systemd of its own as PID 1, over this machine's files: what it changes lies in a folder, what it starts ends with it.

Its own namespaces for processes, mounts, network, cgroups and host name; of this machine's services none is started.
"""

import os
import pathlib
import signal
import subprocess

CGROUPS = [pathlib.Path(path) for path in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")]
# Those of systemd's units that are started; all others that its targets want are masked.
STARTED = {"systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-tmpfiles-setup.service"}
TARGETS = ("sysinit", "basic", "sockets", "timers", "paths", "local-fs", "multi-user", "network-online")

# In the new namespaces, before systemd: what a container manager mounts.
INIT = """
set -eu
root=$1
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/shm" "$root/dev/pts"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/zero" c 1 5
mknod -m 666 "$root/dev/full" c 1 7
mknod -m 666 "$root/dev/random" c 1 8
mknod -m 666 "$root/dev/urandom" c 1 9
mknod -m 666 "$root/dev/tty" c 5 0
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
# Not chroot: the kernel gives a process in one no user namespace, which PrivateUsers=yes is.
cd "$root"
pivot_root . mnt
cd /
umount --lazy /mnt
# What systemd mounts for a service's credentials is seen by that service only so.
mount --make-rshared /
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=trial /usr/lib/systemd/systemd --system --unit=trial.target --show-status=no
"""

TARGET = """[Unit]
Requires=trial.service
AllowIsolate=yes
"""

# systemd ends with the trial, however that ends.
SERVICE = """[Unit]
DefaultDependencies=no
Wants=basic.target
After=basic.target
SuccessAction=exit-force
FailureAction=exit-force

[Service]
Type=oneshot
Environment=PYTHONDONTWRITEBYTECODE=1 LC_ALL=C DEBIAN_FRONTEND=noninteractive
ExecStart={command}
StandardOutput=file:/trial/said.log
StandardError=inherit
"""


def run(folder, files, command, seconds):
    """Runs `command` as a service of a systemd that sees this machine's root with `files` in /trial; what it said."""
    root, upper, work = (folder / name for name in ("root", "upper", "work"))
    for path in (root, upper, work):
        path.mkdir(parents=True)
    lay_over(["lowerdir=/", f"upperdir={upper}", f"workdir={work}"], root)
    group = next((path for path in CGROUPS if (path / "cgroup.controllers").exists()), CGROUPS[0]) / f"tidegate-trial-{os.getpid()}"
    try:
        trial = root / "trial"
        trial.mkdir()
        for file in files:
            subprocess.run(["cp", "--recursive", str(file), str(trial)], check=True)
        prepare(root, command)
        group.mkdir()
        booted = boot(root, group, seconds)
        said = trial / "said.log"
        return (said.read_text() if said.exists() else "") + booted
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", str(root)], capture_output=True, check=False)
        for path, _, _ in os.walk(group, topdown=False):
            os.rmdir(path)


def lay_over(options, root):
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", ",".join(options), str(root)], check=True)


def prepare(root, command):
    units = root / "etc/systemd/system"
    (root / "etc/fstab").write_text("")
    # Images of containers forbid packages to start, reload and stop anything.
    (root / "usr/sbin/policy-rc.d").unlink(missing_ok=True)
    for target in TARGETS:
        for place in ("usr/lib/systemd/system", "etc/systemd/system"):
            wanted = root / place / f"{target}.target.wants"
            for unit in sorted(path.name for path in wanted.iterdir()) if wanted.is_dir() else ():
                if unit not in STARTED:
                    mask(units / unit)
    for unit in ("systemd-udevd.service", "systemd-udevd-kernel.socket", "systemd-udevd-control.socket", "dbus.socket"):
        mask(units / unit)
    (units / "trial.target").write_text(TARGET)
    (units / "trial.service").write_text(SERVICE.format(command=command))


def mask(unit):
    unit.unlink(missing_ok=True)
    unit.symlink_to("/dev/null")


def boot(root, group, seconds):
    """Until the trial's end; what systemd said, where it did not come that far."""
    apart = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--net", "--cgroup", "--ipc", "--uts"]
    # In the group before it is a namespace's root.
    joined = f'echo $$ >"{group}/cgroup.procs"; exec "$@"'
    command = ["sh", "-c", joined, "sh", *apart, "sh", "-c", INIT, "init", str(root)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try:
        said, _ = started.communicate(timeout=seconds)
        return "" if started.returncode == 0 else f"\nsystemd: exit {started.returncode}\n{said}"
    except subprocess.TimeoutExpired:
        return f"\nsystemd did not end within {seconds} s\n"
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()
        emptied(group)


def emptied(group):
    """The kernel ends what was in the namespace; its group is empty a moment later."""
    events = group / "cgroup.events"
    for _ in range(200):
        if "populated 0" in events.read_text():
            return
        subprocess.run(["sleep", "0.05"], check=True)
