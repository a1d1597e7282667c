"""Serves a folder at the pod's own address."""
import functools, http.server, os, sys

handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
http.server.ThreadingHTTPServer((os.environ["HOST"], 8080), handler).serve_forever()
