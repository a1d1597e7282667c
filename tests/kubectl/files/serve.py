"""Serves a folder: at the pod's own address, or everywhere in a network of its own."""
import functools, http.server, os, sys

handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
host = os.environ["HOST"] if os.environ["HOST"].startswith("127.") else ""
http.server.ThreadingHTTPServer((host, 8080), handler).serve_forever()
