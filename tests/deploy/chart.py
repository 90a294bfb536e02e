"""The chart, with Helm's own SDK: linted, rendered as different people would, each object against Kubernetes' schemas."""

import base64
import json

import helm_python as helm
import kubernetes_validate
import yaml

# The oldest that the chart asks for, and the newest whose schemas we have.
KUBERNETES = ("1.30", "1.37")
# Kinds of other projects, whose schemas no package has. Their content is tried otherwise, or not at all.
FOREIGN = {"ServiceMonitor", "PrometheusRule"}
SEVERITY_WARNING = 2

EVERYTHING = {
    "replicaCount": 2,
    "persistence": {"enabled": True, "storageClassName": "fast"},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True},
    "grafanaDashboard": {"enabled": True},
    "secretMounts": ["engine-key"],
    "adminToken": {"existingSecret": "ours"},
    "imagePullSecrets": [{"name": "pull"}],
    "priorityClassName": "high",
    "podLabels": {"team": "inference"},
    "podAnnotations": {"note": "yes"},
    "extraEnv": [{"name": "RUST_BACKTRACE", "value": "1"}],
    "nodeSelector": {"zone": "a"},
    "tolerations": [{"key": "cpu", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "service": {"type": "LoadBalancer", "port": 80, "annotations": {"lb": "internal"}},
}
TOKEN = {"adminToken": {"value": "a-token-of-our-own"}}
OF_SOMEBODY = {
    "": TOKEN,
    "with everything": EVERYTHING,
    "with nothing optional": {"podDisruptionBudget": {"enabled": False}, "adminToken": {"existingSecret": "ours"}},
}
REFUSED = [{"replicaCount": 0}, {"servise": {}}, {"config": {"deploymnets": []}}, {"service": {"port": 99999}}]


def check(given, said, tally):
    place = given.house / "deploy/helm/tidegate"
    found = helm.lint(str(place))
    heavy = [message for message in found["messages"] if message["severity"] >= SEVERITY_WARNING] + found["errors"]
    tally.check(f"Helm {helm.helm_sdk_version()} lints the chart", heavy)
    with helm.Chart.load(str(place)) as loaded:
        token(loaded, tally)
        gap(loaded, tally)
        for who, values in OF_SOMEBODY.items():
            rendered(given, said, tally, who, loaded.render(values, name="demo", namespace="prod"))
        for values in REFUSED:
            tally.check(f"the schema refuses {json.dumps(values)}", refused(loaded, values))


def token(loaded, tally):
    """Case O16: nothing of the chart changes by itself, for Argo CD applies whatever is rendered."""
    try:
        said = "it was rendered" if loaded.render({}, name="demo", namespace="prod") else ""
    except helm.HelmError as error:
        said = "" if all(word in str(error) for word in ("existingSecret", "kubectl -n prod create secret")) else str(error)
    tally.check("case O16: without a token the chart says how to make one", said)
    for who, values in OF_SOMEBODY.items():
        twice = [loaded.render(values, name="demo", namespace="prod") for _ in range(2)]
        tally.check(f"case O16: rendered twice {who}, it is the same", [name for name in twice[0] if twice[0][name] != twice[1][name]])
    files = loaded.render(TOKEN, name="demo", namespace="prod")
    secrets = [thing for thing in objects_of(files) if thing["kind"] == "Secret"]
    held = [base64.b64decode(thing["data"]["admin-token"]).decode() for thing in secrets]
    tally.check("case O16: a token that is given is in its secret", "" if held == [TOKEN["adminToken"]["value"]] else held)
    config = yaml.safe_load(next(thing for thing in objects_of(files) if thing["kind"] == "ConfigMap")["data"]["tidegate.yaml"])
    tally.check("case O16: no account has to be made up", config["accounts"])


def gap(loaded, tally):
    """Case O05: an update without a gap where there can be none, and the gap told where there is one."""
    for persistent, strategy in ((False, {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}), (True, {"type": "Recreate"})):
        files = loaded.render({**TOKEN, "persistence": {"enabled": persistent}}, name="demo", namespace="prod")
        found = next(thing for thing in objects_of(files) if thing["kind"] == "Deployment")["spec"]["strategy"]
        tally.check(f"case O05: persistence {persistent}: {strategy['type']}", "" if found == strategy else found)
        notes = next((text for name, text in files.items() if name.endswith("NOTES.txt")), "")
        told = "Updates have a gap" if persistent else "Updates have no gap"
        tally.check(f"case O05: and the notes say: {told}", "" if told in notes else notes or "there are no notes")


def objects_of(files):
    text = (content for name, content in files.items() if name.endswith(".yaml"))
    return [thing for content in text for thing in yaml.safe_load_all(content) if thing]


def refused(loaded, values):
    try:
        loaded.validate_schema(values)
    except helm.HelmError:
        return ""
    return "it was taken"


def rendered(given, said, tally, who, files):
    objects = objects_of(files)
    kinds = {}
    for thing in objects:
        kinds.setdefault(thing["kind"], []).append(thing)
    faults = [fault for thing in objects if thing["kind"] not in FOREIGN for fault in faults_of(thing)]
    named = ", ".join(sorted(kinds))
    tally.check(f"rendered {who}: valid for Kubernetes {' and '.join(KUBERNETES)} ({named})", faults)

    pod = kinds["Deployment"][0]["spec"]["template"]["spec"]
    box, container = pod["securityContext"], pod["containers"][0]
    sealed = (
        box["runAsNonRoot"], box["runAsUser"], container["securityContext"]["readOnlyRootFilesystem"],
        container["securityContext"]["capabilities"], container["securityContext"]["allowPrivilegeEscalation"],
    )
    tally.check("its pod has no rights", "" if sealed == (True, 65532, True, {"drop": ["ALL"]}, False) else sealed)
    spec = kinds["Deployment"][0]["spec"]
    has_volume = any("persistentVolumeClaim" in volume for volume in pod["volumes"])
    tally.check("case O05: an update has no gap, but where a volume belongs to one pod", gap_of(spec["strategy"], has_volume))
    notes = next(content for name, content in files.items() if name.endswith("NOTES.txt"))
    tally.check("where it has one its notes say so", "" if ("outage" in notes) == has_volume else notes)
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"] for volume in pod["volumes"]}
    tally.check("and each mount has its volume", mounted ^ volumes)

    folder = given.logs / f"chart-{len(who)}"
    folder.mkdir()
    config = next(thing for thing in kinds["ConfigMap"] if "tidegate.yaml" in thing["data"])["data"]["tidegate.yaml"]
    (folder / "token").write_text("a-token\n")
    (folder / "tidegate.yaml").write_text(config.replace("/run/secrets/admin/admin-token", str(folder / "token")))
    tally.check("and its configuration is in order", said(given.tidegate, "check", "--config", folder / "tidegate.yaml"))
    shutdown = yaml.safe_load(config)["listen"]["shutdown"]
    needed = 5 + (shutdown["lame_duck_ms"] + shutdown["grace_ms"]) / 1000
    tally.check("and the pod's grace is longer than the gateway's", "" if pod["terminationGracePeriodSeconds"] > needed else needed)
    for rule in kinds.get("PrometheusRule", []):
        (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": rule["spec"]["groups"]}))
        tally.check("and promtool reads its rules", said("promtool", "check", "rules", folder / "rules.yaml"))
        shipped = sum((yaml.safe_load((given.house / f"deploy/prometheus/{name}.yaml").read_text())["groups"] for name in ("recording", "alerts")), [])
        tally.check("which are those of deploy/prometheus", "" if rule["spec"]["groups"] == shipped else "they differ")


def gap_of(strategy, has_volume):
    """What is wrong with how an update goes."""
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    return "" if strategy == ({"type": "Recreate"} if has_volume else rolling) else strategy


def faults_of(thing):
    faults = []
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as fault:
            faults.append(f"{version} {thing['kind']}: {fault}")
    return faults
