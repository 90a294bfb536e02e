"""A service that fails in the ways that a network has: closed, cut in the middle, silent. Then it answers."""

import json
import socket
import threading

ANSWER = json.dumps({"choices": [{"message": {"role": "assistant", "content": "here"}}]}).encode()
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
# How long a silent connection is held: longer than any client here waits.
SILENT_SECONDS = 20


class Broken:
    """One connection after the other fails as the list says; after the list each is answered."""

    def __init__(self, *ways):
        self.ways = list(ways)
        self.connections = 0
        self.over = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            way = self.ways[self.connections] if self.connections < len(self.ways) else "answer"
            self.connections += 1
            threading.Thread(target=self.serve, args=(connection, way), daemon=True).start()

    def serve(self, connection, way):
        with connection:
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(65536) or b"\r\n\r\n"
            if way == "cut":
                connection.sendall(HEAD % len(ANSWER) + ANSWER[: len(ANSWER) // 2])
            elif way == "silent":
                self.over.wait(SILENT_SECONDS)
            elif way == "answer":
                connection.sendall(HEAD % len(ANSWER) + ANSWER)

    def stop(self):
        self.over.set()
        self.listener.close()
