"""A model of its own process: the vectors of provider ``hash`` behind an OpenAI-compatible /embeddings.

Run as a program it prints the port it listens on and serves until it is terminated.
"""

import base64
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson
from hashing import hash_vectors


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        texts = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        vectors = (base64.b64encode(vector.tobytes()).decode() for vector in hash_vectors(texts))
        body = orjson.dumps({"data": [{"index": i, "embedding": vector} for i, vector in enumerate(vectors)]})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
