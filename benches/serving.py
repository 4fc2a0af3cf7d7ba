"""A server of the built-in model for the benchmarks of this folder."""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import time
import urllib.request


@contextlib.contextmanager
def serving(lmx, *flags):
    """Starts the program on a free port, gives the port, and stops it in the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([lmx, "serve", "--port", str(port), "--set", "telemetry.log.level=warn", *flags])
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5)
                break
            except OSError:
                assert server.poll() is None, "the server ended"
                time.sleep(0.1)
        yield port
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def post(port, body):
    """Asks for a completion; gives the connection, to be closed by the caller, and the response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
    return connection, connection.getresponse()
