"""compose.yaml without a container engine: read as compose reads it, its sample config served, its token handed over."""

import os
import pathlib
import shutil
import subprocess

import yaml

GATEWAY = 65532
PROMETHEUS = 65534


def check(given, said, tally):
    deploy = given.house / "deploy"
    folder = given.logs / "compose"
    shutil.copytree(deploy / "compose", folder)
    token = folder / "admin.token"
    token.write_text("a-token-of-sixteen-characters\n")
    token.chmod(0o600)
    environment = {**os.environ, "CONFIG": str(folder)}
    command = ["docker-compose", "-f", str(deploy / "compose.yaml"), "config"]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    tally.check("docker-compose reads compose.yaml", ran.stderr if ran.returncode else "")
    if ran.returncode:
        return
    services = yaml.safe_load(ran.stdout)["services"]
    published = [address(port) for service in services.values() for port in service.get("ports", [])]
    tally.check("everything is published on this machine alone", [ip for ip in published if ip != "127.0.0.1"])
    text = (deploy / "compose.yaml").read_text()
    tally.check("case O05: the gap of an update is told", "" if "has a gap" in text else "not a word")
    sample(given, said, tally, folder, services)
    if os.geteuid() != 0:
        tally.check("the token is handed over", "only root gives files away: run this as root")
        return
    handed_over(tally, folder, services)


def address(port):
    """Where a port is published: compose tells it as a mapping or as a text, after its version."""
    return port.get("host_ip") if isinstance(port, dict) else port.split(":")[0]


def sample(given, said, tally, folder, services):
    """Case O16: the sample config is in order with the paths that the container has."""
    config = folder / "sample.yaml"
    token = folder / "admin.token"
    config.write_text((folder / "tidegate.yaml").read_text().replace("/run/token/tidegate", str(token)))
    tally.check("case O16: the sample config is in order", said(given.tidegate, "check", "--config", config))
    told = yaml.safe_load(config.read_text())
    replica = told["deployments"][0]["replicas"][0]
    listens = services["engine"]["command"][services["engine"]["command"].index("--address") + 1]
    tally.check("its replica is the engine beside it", "" if replica == f"http://engine:{listens.rsplit(':', 1)[1]}" else f"{replica}, {listens}")
    scrape = yaml.safe_load((given.house / "deploy/prometheus/compose.yaml").read_text())["scrape_configs"][0]
    tally.check("Prometheus reads the token where it is", "" if scrape["authorization"]["credentials_file"] == "/run/token/prometheus" else scrape)


def handed_over(tally, folder, services):
    """Case O16: the token's own service, run by a shell, makes a 0600 token readable for who has to read it, and nobody else."""
    volume = folder / "token"
    volume.mkdir()
    # Folders above this one may be closed to others.
    script = services["token"]["command"][-1].replace("$$", "$")
    script = script.replace("/run/secrets/admin-token", str(folder / "admin.token")).replace("/run/token", str(volume))
    shell = services["token"]["entrypoint"]
    for round_ in ("first", "next"):
        ran = subprocess.run([*shell, script], capture_output=True, text=True, check=False)
        tally.check(f"case O16: the {round_} start hands the token over", ran.stderr if ran.returncode else "")
    for name, uid in (("tidegate", GATEWAY), ("prometheus", PROMETHEUS)):
        found = (volume / name).stat()
        seen = (found.st_uid, found.st_mode & 0o777)
        tally.check(f"case O16: user {uid} alone reads its copy", "" if seen == (uid, 0o600) else f"{seen[0]} {seen[1]:o}")
    left = sorted(path.name for path in pathlib.Path(volume).iterdir())
    tally.check("and nothing else is there", "" if left == ["prometheus", "tidegate"] else left)
