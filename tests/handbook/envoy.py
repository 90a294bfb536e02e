"""The config of deploy/book/how-to/envoy.md in a real Envoy before the gateway: streams, addresses, many at once."""

import json
import pathlib
import ssl
import subprocess
import sysconfig
import threading
import time
import urllib.request

from pages import blocks
from programs import chat, digest, free_port
from sdks import lines

STREAMS = 100
# What a client says of itself.
CLAIMED = "198.51.100.7"
START_SECONDS_MAX = 30


def config_text(engine, log, port, proxies):
    return f"""
listen:
  address: "127.0.0.1:{port}"
  proxies: {proxies}
admin: {{ address: "127.0.0.1:{free_port()}" }}
log: {{ access: {log} }}
deployments:
  - {{ name: open, engine: vllm, replicas: ["{engine}"], limit: {STREAMS} }}
models:
  - {{ name: tiny, deployments: [open], size_class: small }}
accounts:
  - {{ id: acme, keys: ["{digest('acme')}"] }}
"""


def certificate(folder):
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    command = ["openssl", "req", "-x509", *key, *subject, "-keyout", folder / "tls.key", "-out", folder / "tls.crt"]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


def proxies(page):
    """The entry that the page has for `listen.proxies`."""
    line = next(line for block in blocks(page) if block.kind == "yaml" for line in block.text.splitlines() if "cidr" in line)
    return f"[{line.strip().removeprefix('- ')}]"


def program():
    """Where the package has put it."""
    places = [pathlib.Path(sysconfig.get_path("scripts")), pathlib.Path(sysconfig.get_path("purelib"))]
    found = [file for place in places for file in place.rglob("envoy*") if file.is_file() and file.stat().st_mode & 0o111]
    return max(found, key=lambda file: file.stat().st_size)


def stream(url, context, seen):
    """One stream: when its first and last events came."""
    body = chat("tiny", max_tokens=40, stream=True, user="sim:output=40")
    head = {"Authorization": "Bearer acme", "Content-Type": "application/json", "X-Forwarded-For": CLAIMED}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), head)
    with urllib.request.urlopen(request, timeout=60, context=context) as answer:
        times, last = [], b""
        for line in answer:
            if line.startswith(b"data:"):
                times.append(time.monotonic())
                last = line.strip()
    seen.append((times[-1] - times[0], last))


def wait_for(url, context):
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=2, context=context) as answer:
                return answer.status
        except OSError as error:
            if time.monotonic() > deadline:
                return error
            time.sleep(0.1)


def run(given, programs, tally):
    page = (given.house / "deploy/book/how-to/envoy.md").read_text()
    folder, log = programs.folder, programs.folder / "access.log"
    certificate(folder)
    gateway, customers = free_port(), free_port()
    # At the pace of a real one.
    _, engine = programs.engine("engine", "tiny")
    programs.gateway(config_text(engine, log, gateway, proxies(page)))

    text = next(block.text for block in blocks(page) if block.kind == "yaml envoy")
    for old, new in [("0.0.0.0, port_value: 443", f"127.0.0.1, port_value: {customers}"), ("port_value: 8080", f"port_value: {gateway}"), ("/etc/envoy/", f"{folder}/")]:
        assert old in text, old
        text = text.replace(old, new)
    (folder / "envoy.yaml").write_text(text)
    programs.start("envoy", program(), "-c", folder / "envoy.yaml", "--concurrency", "1", "--use-dynamic-base-id")

    context = ssl.create_default_context(cafile=folder / "tls.crt")
    url = f"https://localhost:{customers}"
    ready = wait_for(url, context)
    tally.check("Envoy takes the config and finds the gateway ready", "" if ready == 200 else f"{ready}; {(folder / 'envoy.log').read_text()[-800:]}")
    seen = []
    threads = [threading.Thread(target=stream, args=(url, context, seen)) for _ in range(STREAMS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = [last for _, last in seen if last == b"data: [DONE]"]
    tally.check(f"{STREAMS} streams at once are whole", "" if len(whole) == STREAMS else f"{len(whole)} of {STREAMS}")
    gathered = [took for took, _ in seen if took < 0.2]
    # A reader that is late, on a busy machine, gets some of its events at once; a proxy that gathers does so to all.
    tally.check("their events come one by one", f"{len(gathered)} of {STREAMS} came at once" if 2 * len(gathered) > STREAMS else "")
    addresses = {line["client_address"] for line in lines(log, STREAMS)}
    # Of a client on its own machine Envoy tells the machine's address.
    tally.check("the access log has the address that Envoy tells, not what the client claims", "" if len(addresses) == 1 and CLAIMED not in addresses else addresses)
