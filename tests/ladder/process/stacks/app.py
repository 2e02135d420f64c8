"""Stands in for an application of any stack: `web`, `worker` or `migrate`.

Its data are in PostgreSQL, where only `migrate` may make a table. Its jobs are in Redis if there is one.
"""

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.parse


def sql(text):
    command = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", os.environ["DATABASE_URL"], "-c", text]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return done.stdout.split()


class Redis:
    def __init__(self):
        url = urllib.parse.urlsplit(os.environ["REDIS_URL"])
        self.file = socket.create_connection((url.hostname, url.port)).makefile("rwb")
        assert self.ask("AUTH", url.password) == "OK"

    def ask(self, *words):
        parts = [f"${len(word)}\r\n{word}\r\n" for word in words]
        self.file.write(f"*{len(words)}\r\n{''.join(parts)}".encode())
        self.file.flush()
        return self.answer()

    def answer(self):
        line = self.file.readline().decode().strip()
        kind, rest = line[:1], line[1:]
        if kind == "*":
            return [self.answer() for _ in range(int(rest))]
        if kind == "$":
            return self.file.read(int(rest) + 2)[:-2].decode()
        if kind in "+:":
            return rest
        sys.exit(f"redis: {line!r}")


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/version":
            body = {"commit": os.environ["KAGERO_COMMIT"]}
        elif self.path == "/done":
            body = sql("SELECT name FROM done ORDER BY name")
        elif self.path == "/enqueue":
            body = Redis().ask("LPUSH", "jobs", os.environ["KAGERO_COMMIT"])
        elif self.path == sys.argv[2]:
            body = "healthy"
        else:
            return self.send_error(404)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *arguments):
        pass


def web():
    # Without the table there was no migration before, and this ends.
    sql("SELECT count(*) FROM done")
    http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Page).serve_forever()


def worker():
    if "REDIS_URL" not in os.environ:
        sql("INSERT INTO done VALUES ('worker')")
        signal.pause()
    redis = Redis()
    while True:
        _, name = redis.ask("BRPOP", "jobs", "0")
        sql(f"INSERT INTO done VALUES ('{name}')")


def migrate():
    sql("CREATE TABLE IF NOT EXISTS done (name text PRIMARY KEY)")


{"web": web, "worker": worker, "migrate": migrate}[sys.argv[1]]()
