"""The image without an engine: its recipe linted, its file system made and run as the user that it will have."""

import json
import os
import re
import subprocess

from programs import Programs, ask, chat, digest, free_port, read

USER = 65532
# Of the program as it ships, by the profile `dist`: say TIDEGATE_DIST=1 with it.
SIZE_MAX_MB = 30
# The builds that tests use have no link-time optimisation.
SIZE_MAX_MB_UNLINKED = 36


def check(given, said, tally):
    deploy = given.house / "deploy"
    tally.check("hadolint has nothing to say about the Containerfile", said("hadolint", deploy / "Containerfile"))
    root = given.logs / "rootfs"
    tally.check("rootfs.sh makes the file system", said(deploy / "rootfs.sh", given.tidegate, root))
    size = sum(file.stat().st_size for file in root.rglob("*") if file.is_file()) / 1e6
    most = SIZE_MAX_MB if os.environ.get("TIDEGATE_DIST") else SIZE_MAX_MB_UNLINKED
    tally.check(f"which has {size:.1f} MB, at most {most}", "" if size <= most else f"{size:.1f} MB")
    health = re.search(r'^HEALTHCHECK .*CMD (\[.*\])$', (deploy / "Containerfile").read_text(), re.MULTILINE)
    tally.check("case O16: the image has a HEALTHCHECK", "" if health else "it has none")
    if os.geteuid() != 0:
        tally.check("it runs in a chroot", "only root may change its root: run this as root")
        return
    with Programs(given.tidegate, given.logs / "image") as programs:
        runs(programs, root, json.loads(health.group(1)) if health else [], tally)


def runs(programs, root, health, tally):
    """An answer through a gateway that sees nothing but the image's files, and may write nothing but its state."""
    _, engine = programs.engine("engine", "tiny", "--profile", "instant")
    config = f"""
listen: {{ address: "127.0.0.1:{free_port()}" }}
admin: {{ address: "127.0.0.1:{free_port()}" }}
deployments: [{{ name: tiny, engine: vllm, replicas: ["{engine}"] }}]
models: [{{ name: tiny, deployments: [tiny] }}]
accounts: [{{ id: acme, keys: ["{digest('key')}"] }}]
state: {{ dir: /var/lib/tidegate }}
"""
    (root / "etc/tidegate/tidegate.yaml").write_text(config)
    command = ["chroot", f"--userspec={USER}:{USER}", root, "/usr/bin/tidegate"]
    gateway = programs.start("gateway", *command, "serve", "--config", "/etc/tidegate/tidegate.yaml")
    url, admin = gateway.said(r"listening on (http://[0-9.:]+)"), gateway.said(r"admin on (http://[0-9.:]+)")
    status, _, body = ask(f"{url}/v1/chat/completions", "key", chat("tiny", max_tokens=4))
    tally.check("in a chroot, as user 65532, it answers", "" if status == 200 else f"{status} {body}")
    tally.check("and is ready", "" if read(f"{admin}/readyz") == "ok\n" else "not ready")
    command = ["env", f"TIDEGATE_ADMIN={admin}", "chroot", f"--userspec={USER}:{USER}", root, *health]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    tally.check("its HEALTHCHECK says so, too", asked.stderr or asked.stdout if asked.returncode or not health else "")
    who = subprocess.run(["ps", "-o", "uid=", "-p", str(gateway.process.pid)], capture_output=True, text=True, check=True)
    tally.check("and runs as nobody else", "" if who.stdout.strip() == str(USER) else who.stdout)
    listed = json.loads(read(f"{admin}/api/v1/limits"))["budgets"]
    tally.check("and has booked what it served", "" if listed and listed[0]["used"][0] > 0 else listed)
    gateway.stop()
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    tally.check("and says when it is not", "" if asked.returncode == 1 else f"exit {asked.returncode}")
    tally.check("its state is on the volume", "" if any((root / "var/lib/tidegate").iterdir()) else "nothing written")
