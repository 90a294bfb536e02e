"""How the gateway, node, uvicorn, nginx and HAProxy read the same bytes: where does a request end, and what is its body?

Three things are asserted over the cases below:

- what the gateway and node, or the gateway and uvicorn, both accept, they read alike;
- what nginx and HAProxy make of a case reaches the engine through the gateway as they sent it, or is refused;
- no request reaches an engine that is hidden in the body of another one.

    python3 tests/clients/framing.py target/debug/tidegate

Node, nginx, HAProxy and uvicorn are used where they are installed; the last line says which were.
"""

import hashlib
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

KEY = "tg-framing"
PATH = ":/usr/sbin:/usr/local/sbin"
NODE = """
require('http').createServer((request, response) => {
  const pieces = [];
  request.on('data', piece => pieces.push(piece));
  request.on('end', () => { console.log(Buffer.concat(pieces).toString('hex')); response.end('ok'); });
}).listen(+process.argv[1], '127.0.0.1');
"""
UVICORN = """
import sys, uvicorn
async def app(scope, receive, send):
    if scope['type'] != 'http':
        return
    body, more = b'', True
    while more:
        message = await receive()
        if message['type'] == 'http.disconnect':
            return
        body, more = body + message.get('body', b''), message.get('more_body', False)
    print(body.hex(), flush=True)
    await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-length', b'0')]})
    await send({'type': 'http.response.body', 'body': b''})
uvicorn.run(app, host='127.0.0.1', port=int(sys.argv[1]), log_level='critical', lifespan='off')
"""


def body(mark):
    return json.dumps({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": mark}]})


def request(lines, rest, version="1.1", host="Host: g\r\n"):
    return (f"POST /v1/chat/completions HTTP/{version}\r\n{host}Authorization: Bearer {KEY}\r\n"
            f"Content-Type: application/json\r\n{lines}\r\n{rest}")


def cases():
    outer, inner = body("outer"), body("inner")
    n, te = len(outer), "Transfer-Encoding: chunked\r\n"
    hidden = request(f"Content-Length: {len(inner)}\r\n", inner)
    one = f"{n:x}\r\n{outer}\r\n0\r\n\r\n"
    cl = f"Content-Length: {n}\r\n"
    yield "by length", request(cl, outer)
    yield "two in a row", request(cl, outer) + hidden
    yield "in chunks", request(te, one)
    yield "in chunks, then another", request(te, one) + hidden
    yield "HTTP/1.0", request(cl, outer, "1.0")
    yield "HTTP/1.0, then another", request(cl, outer, "1.0") + hidden
    yield "HTTP/1.0 in chunks", request(te, one, "1.0") + hidden
    yield "HTTP/1.0 without a length", request("", outer, "1.0")
    for size in [f"{n:X}", f"000{n:x}", f"{n:x};a=b", f"{n:x} ;a", f"{n:x} ", f" {n:x}", f"+{n:x}", f"0x{n:x}", f"{n:x};a\n", f"{n:x};\"\r\n"]:
        yield f"chunk size {size!r}", request(te, f"{size}\r\n{outer}\r\n0\r\n\r\n") + hidden
    for trailer in ["A: b", "A b", "A:", " A: b", "A: b\r\n c", "GET / HTTP/1.1", "A: b\nC: d"]:
        yield f"trailer {trailer!r}", request(te, f"{n:x}\r\n{outer}\r\n0\r\n{trailer}\r\n\r\n") + hidden
    for end in ["0\n\n", "0\r\n\n", "0\n\r\n", "00\r\n\r\n"]:
        yield f"last chunk {end!r}", request(te, f"{n:x}\r\n{outer}\r\n{end}") + hidden
    for lines in [te + cl, cl + te, cl + cl, cl + "Content-Length: 3\r\n", f"Content-Length: {n}, {n}\r\n", f"Content-Length: +{n}\r\n",
                  f"Content-Length : {n}\r\n", f"Content-Length: {n}\n", f"X: y\n{cl}", f"X: y\r{cl}", f"X: y\r\n {cl}", f"Content_Length: {n}\r\n{cl}"]:
        yield f"lines {lines!r} by length", request(lines, outer) + hidden
    for lines in ["Transfer-Encoding: identity\r\n", "Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: chunked, identity\r\n",
                  "Transfer-Encoding: xchunked\r\n", "Transfer-Encoding:\tchunked\r\n", "Transfer-Encoding : chunked\r\n", te + te,
                  "Transfer-Encoding: chunked,\r\n", "Transfer-Encoding: \"chunked\"\r\n", "Transfer_Encoding: chunked\r\n", f"X: y\n{te}"]:
        yield f"lines {lines!r} in chunks", request(lines, one) + hidden
    yield "no host", request(cl, outer, host="")
    yield "two hosts", request(cl, outer, host="Host: g\r\nHost: h\r\n")
    yield "a line end before", "\r\n" + request(cl, outer)
    yield "hidden in a body", request(f"Content-Length: {len(hidden)}\r\n", hidden)
    yield "hidden in a chunk", request(te, f"{len(hidden):x}\r\n{hidden}\r\n0\r\n\r\n")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Recorder:
    """An engine that keeps the bodies of the requests that it is sent, framed as a proxy frames them."""

    def __init__(self):
        self.bodies, self.listener = [], socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        connection.settimeout(10)
        with connection, connection.makefile("rb") as stream:
            try:
                while (line := stream.readline()).strip():
                    headers = {}
                    while (field := stream.readline().strip()):
                        name, value = field.split(b":", 1)
                        headers[name.lower()] = value.strip()
                    read = stream.read(int(headers.get(b"content-length", 0)))
                    chunked = b"chunked" in headers.get(b"transfer-encoding", b"")
                    while chunked and (size := int(stream.readline().split(b";")[0], 16)):
                        read += stream.read(size)
                        stream.readline()
                    while chunked and stream.readline().strip():
                        pass
                    if line.startswith(b"POST"):
                        self.bodies.append(read)
                    answer = json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [
                        {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}],
                        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}).encode()
                    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n"
                    connection.sendall(head.encode() + answer)
            except (OSError, ValueError):
                pass


class Printer:
    """A server that prints the body of each request that it reads."""

    def __init__(self, command):
        self.port, self.bodies = free_port(), []
        self.process = subprocess.Popen(command + [str(self.port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.bodies.append(bytes.fromhex(line.strip()))


def wait_for(port):
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


def send(port, text):
    """Sends and reads until nothing comes for a moment."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
        s.settimeout(0.4)
        try:
            s.sendall(text.encode("latin1"))
            while s.recv(65536):
                pass
        except OSError:
            pass


def proxy_config(kind, folder, fronts):
    """A config of nginx or HAProxy that passes each of the ports on to another; the command that runs it."""
    file = folder / kind
    if kind == "nginx":
        servers = "".join(f"server {{ listen 127.0.0.1:{own}; location / {{ proxy_pass http://127.0.0.1:{to}; }} }}\n" for own, to in fronts)
        temporary = "".join(f"{name}_temp_path {folder};\n" for name in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
        file.write_text(f"daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr crit;\nevents {{}}\n"
                        f"http {{ access_log off; {temporary}{servers} }}\n")
        return ["nginx", "-p", str(folder), "-c", str(file)]
    sections = "".join(f"listen l{own}\n bind 127.0.0.1:{own}\n server s 127.0.0.1:{to}\n" for own, to in fronts)
    file.write_text(f"defaults\n mode http\n timeout connect 2s\n timeout client 5s\n timeout server 5s\n{sections}")
    return ["haproxy", "-db", "-f", str(file)]


def start_gateway(program, folder, engine):
    port = free_port()
    config = {"listen": {"address": f"127.0.0.1:{port}"}, "admin": {"address": f"127.0.0.1:{free_port()}"},
              "deployments": [{"name": "d", "engine": "openai", "replicas": [f"http://127.0.0.1:{engine.port}"]}],
              "models": [{"name": "m", "deployments": ["d"]}], "log": {"access": "off", "level": "error"},
              "accounts": [{"id": "a", "keys": ["sha256:" + hashlib.sha256(KEY.encode()).hexdigest()]}]}
    (folder / "tidegate.yaml").write_text(json.dumps(config))
    return port, subprocess.Popen([program, "serve", "--config", str(folder / "tidegate.yaml")], stdout=subprocess.DEVNULL)


def read_by(readers, port, text):
    for reader in readers:
        reader.bodies.clear()
    send(port, text)
    time.sleep(0.05)


def alike(bodies):
    return [json.loads(one) for one in bodies if one.startswith(b"{")]


def is_part(some, every):
    """Whether `some` is `every` without some of its members, in the same order."""
    rest = iter(every)
    return all(one in rest for one in some)


def main():
    folder, wrong, started = pathlib.Path(tempfile.mkdtemp()), [], []
    behind, direct = Recorder(), Recorder()
    gateway, process = start_gateway(sys.argv[1], folder, behind)
    started.append(process)
    servers = {}
    if shutil.which("node"):
        servers["node"] = Printer(["node", "-e", NODE])
    if subprocess.run([sys.executable, "-c", "import uvicorn"], capture_output=True).returncode == 0:
        servers["uvicorn"] = Printer([sys.executable, "-c", UVICORN])
    started.extend(server.process for server in servers.values())
    proxies = {}
    for kind in ["nginx", "haproxy"]:
        program = shutil.which(kind, path=f"{__import__('os').environ['PATH']}{PATH}")
        if program:
            fronts = [(free_port(), gateway), (free_port(), direct.port)]
            command = proxy_config(kind, folder, fronts)
            started.append(subprocess.Popen([program, *command[1:]], stderr=subprocess.DEVNULL))
            proxies[kind] = [own for own, _ in fronts]
    try:
        for port in [gateway, *[server.port for server in servers.values()], *sum(proxies.values(), [])]:
            wait_for(port)
        served = count = 0
        for name, text in cases():
            count += 1
            read_by([behind], gateway, text)
            ours = alike(behind.bodies)
            served += bool(ours)
            if name.startswith("hidden") and ours:
                wrong.append(f"{name}: the engine got {ours}")
            for kind, server in servers.items():
                read_by([server], server.port, text)
                if ours and server.bodies and alike(server.bodies[:1]) != ours[:1]:
                    wrong.append(f"{name}: {kind} reads {server.bodies[:1]}, the gateway {ours[:1]}")
            for kind, (through, apart) in proxies.items():
                read_by([behind], through, text)
                ours = alike(behind.bodies)
                read_by([direct], apart, text)
                if not is_part(ours, alike(direct.bodies)):
                    wrong.append(f"{name}: {kind} sends {direct.bodies}, the gateway reads {ours}")
        for line in wrong:
            print(line)
        beside = ", ".join([*servers, *proxies]) or "nobody"
        print(f"{count} cases, {served} served, beside {beside}: {len(wrong)} read otherwise")
        sys.exit(bool(wrong) or not 5 <= served < count - 20)
    finally:
        for one in started:
            one.kill()
        shutil.rmtree(folder, ignore_errors=True)


main()
