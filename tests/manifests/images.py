"""Images as people publish them, made of Debian packages, and registries on loopback that serve them."""
import gzip, hashlib, io, json, os, pathlib, platform, re, shutil, socket, subprocess, tarfile, time, urllib.error, urllib.request

HERE = pathlib.Path(__file__).resolve().parent
CONFIG, MANIFEST, INDEX = (f"application/vnd.oci.image.{kind}.v1+json" for kind in ("config", "manifest", "index"))
LAYER = "application/vnd.oci.image.layer.v1.tar+"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
# The one user that the private registry knows; bcrypt of its password.
USER, PASSWORD = "ci", "sesame"
HTPASSWD = "ci:$2b$05$Q2A68PF8HmvRKn3a44PUXO6yreFegXnDA7o6kVi1fEMcesIkKqxEG\n"
# Users of the images, as Debian and the official images number them.
PASSWD = {"root": (0, "/root", "/bin/sh"), "nginx": (101, "/nonexistent", "/bin/false"), "redis": (999, "/data", "/bin/false"),
          "nobody": (65534, "/nonexistent", "/usr/sbin/nologin")}

REGISTRY, BUSYBOX = (("docker-registry",), True), (("busybox-static",), True)
NGINX, REDIS, SETPRIV = (("nginx", "nginx-common"), False), (("redis-tools", "redis-server"), False), (("util-linux", "libcap-ng0"), False)
# Packages that are taken together, and whether alone or with the libraries that they need.
WANTED = [REGISTRY, BUSYBOX, NGINX, REDIS, SETPRIV]


class Packages:
    """Debian packages, downloaded and taken apart, not installed: nothing of theirs runs on this machine by itself."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        (self.folder / "deb").mkdir(parents=True, exist_ok=True)

    def closure(self, names):
        """The packages and every library that they need."""
        found, todo = [], list(names)
        while todo:
            name = todo.pop(0)
            if name in found:
                continue
            found.append(name)
            shown = subprocess.run(["apt-cache", "show", "--no-all-versions", name], text=True, capture_output=True).stdout
            depends = re.findall(r"^(?:Pre-)?Depends: (.*)$", shown, re.M)
            for alternatives in ", ".join(depends).split(", "):
                needed = alternatives.split("|")[0].split(" ")[0].split(":")[0]
                if needed.startswith("lib") or needed == "zlib1g":
                    todo.append(needed)
        return found

    def fetch(self):
        """Everything that the images take, while there is a network."""
        for packages in WANTED:
            self.unpack(packages)

    def unpack(self, packages):
        """A folder with the files of packages."""
        names, alone = packages
        into = self.folder / "root" / "+".join(names)
        if into.exists():
            return into
        wanted = list(names) if alone else self.closure(names)
        missing = [name for name in wanted if not list((self.folder / "deb").glob(f"{name}_*.deb"))]
        if missing:
            subprocess.run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *missing], cwd=self.folder / "deb", check=True)
        part = into.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name in wanted:
            subprocess.run(["dpkg-deb", "-x", next((self.folder / "deb").glob(f"{name}_*.deb")), part], check=True)
        part.rename(into)
        return into


class Layer:
    """One layer of an image on its way to a registry."""

    def __init__(self):
        self.raw = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.raw, mode="w", format=tarfile.PAX_FORMAT)

    def add(self, path, kind=tarfile.REGTYPE, content=b"", mode=0o644, uid=0, gid=0, link="", xattrs=None):
        entry = tarfile.TarInfo(path)
        entry.type, entry.mode, entry.uid, entry.gid, entry.linkname, entry.mtime = kind, mode, uid, gid, link, 1700000000
        entry.size = len(content)
        entry.pax_headers = {f"SCHILY.xattr.{name}": value for name, value in (xattrs or {}).items()}
        self.tar.addfile(entry, io.BytesIO(content))
        return self

    def folder(self, path, mode=0o755, uid=0, gid=0):
        return self.add(path, tarfile.DIRTYPE, mode=mode, uid=uid, gid=gid)

    def symlink(self, path, to):
        return self.add(path, tarfile.SYMTYPE, link=to, mode=0o777)

    def hardlink(self, path, to):
        return self.add(path, tarfile.LNKTYPE, link=to)

    def tree(self, root, leave=("usr/share/doc", "usr/share/man", "usr/share/lintian", "lib/systemd", "etc/init.d")):
        """All files of a folder, owned by root. The directories of a Debian system are there already."""
        for path in sorted(pathlib.Path(root).rglob("*")):
            name = str(path.relative_to(root))
            if name.startswith(leave):
                continue
            mode = path.lstat().st_mode & 0o7777
            if path.is_symlink():
                self.symlink(name, os.readlink(path))
            elif path.is_file():
                self.add(name, content=path.read_bytes(), mode=mode)
            elif name not in ("bin", "sbin", "lib", "lib64", "usr", "etc", "var", "tmp"):
                self.folder(name, mode)
        return self

    def bytes(self):
        self.tar.close()
        return self.raw.getvalue()


class Registry:
    """A `docker-registry` of Debian's on loopback, perhaps only for those who know the password."""

    def __init__(self, program, folder, private=False):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.address = "127.0.0.1:%d" % probe.getsockname()[1]
        self.auth = {}
        access = ""
        if private:
            (self.folder / "htpasswd").write_text(HTPASSWD)
            access = f"auth: {{htpasswd: {{realm: team, path: {self.folder}/htpasswd}}}}\n"
            import base64
            self.auth = {"Authorization": "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
        (self.folder / "config.yml").write_text(
            f"version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {self.folder}/data}}}}\n{access}"
            f"http: {{addr: {self.address}, secret: x}}\n")
        self.process = subprocess.Popen([program, "serve", self.folder / "config.yml"], stdout=open(self.folder / "log", "w"), stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.ask("GET", "/v2/")
                return
            except OSError as error:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise RuntimeError("the registry did not start:\n" + (self.folder / "log").read_text()) from error
                time.sleep(0.05)

    def ask(self, method, where, body=None, kind=None):
        url = where if where.startswith("http") else f"http://{self.address}{where}"
        headers = {**self.auth, **({"Content-Type": kind} if kind else {})}
        return urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method), timeout=30)

    def blob(self, repository, content, kind):
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        with self.ask("POST", f"/v2/{repository}/blobs/uploads/", b"") as started:
            location = started.headers["Location"]
        mark = "&" if "?" in location else "?"
        self.ask("PUT", f"{location}{mark}digest={digest}", content, "application/octet-stream").close()
        return {"mediaType": kind, "digest": digest, "size": len(content)}

    def manifest(self, repository, name, document):
        content = json.dumps(document).encode()
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        self.ask("PUT", f"/v2/{repository}/manifests/{name or digest}", content, document["mediaType"]).close()
        return {"mediaType": document["mediaType"], "digest": digest, "size": len(content)}

    def push(self, repository, tag, layers, **config):
        """Pushes an image for this machine beside one for a machine that nobody has, and an attestation, as builders do."""
        found = []
        for number, layer in enumerate(layers):
            # zstd is what newer builders write.
            zstd = number == 0
            packed = subprocess.run(["zstd", "-q", "-c"], input=layer, capture_output=True, check=True).stdout if zstd else gzip.compress(layer, 6)
            found.append(self.blob(repository, packed, LAYER + ("zstd" if zstd else "gzip")))
        about = {"architecture": ARCHITECTURE, "os": "linux", "config": config,
                 "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]}}
        described = self.blob(repository, json.dumps(about).encode(), CONFIG)
        ours = self.manifest(repository, None, {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": found})
        foreign = self.blob(repository, json.dumps({**about, "architecture": "s390x"}).encode(), CONFIG)
        theirs = self.manifest(repository, None, {"schemaVersion": 2, "mediaType": MANIFEST, "config": foreign, "layers": found})
        statement = self.blob(repository, b"{}", "application/vnd.in-toto+json")
        attested = self.manifest(repository, None, {"schemaVersion": 2, "mediaType": MANIFEST, "config": foreign, "layers": [statement]})
        self.manifest(repository, tag, {"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            {**theirs, "platform": {"os": "linux", "architecture": "s390x"}},
            {**ours, "platform": {"os": "linux", "architecture": ARCHITECTURE}},
            {**attested, "platform": {"os": "unknown", "architecture": "unknown"},
             "annotations": {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": ours["digest"]}},
        ]})
        return ours["digest"]

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


def base(packages):
    """A small Debian: merged /usr, a C library, a shell."""
    layer = Layer()
    for path in ("usr", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "var", "var/log", "var/lib", "root", "home", "run", "proc", "sys", "dev"):
        layer.folder(path)
    layer.folder("tmp", 0o1777).folder("var/tmp", 0o1777).symlink("var/run", "/run")
    for path in ("bin", "sbin", "lib", "lib64"):
        layer.symlink(path, f"usr/{path}")
    busybox = packages.unpack(BUSYBOX) / "bin/busybox"
    layer.add("usr/bin/busybox", content=busybox.read_bytes(), mode=0o755)
    for applet in subprocess.run([busybox, "--list"], text=True, capture_output=True, check=True).stdout.split():
        if applet not in ("busybox", "setpriv"):
            layer.hardlink(f"usr/bin/{applet}", "usr/bin/busybox")
    layer.add("etc/passwd", content="".join(f"{n}:x:{i}:{i}::{home}:{sh}\n" for n, (i, home, sh) in PASSWD.items()).encode())
    layer.add("etc/group", content="".join(f"{n}:x:{i}:\n" for n, (i, *_) in PASSWD.items()).encode())
    layer.add("etc/nsswitch.conf", content=b"passwd: files\ngroup: files\nhosts: files dns\n")
    return layer


NGINX_CONF = b"""user nginx;
worker_processes auto;
error_log /var/log/nginx/error.log notice;
pid /var/run/nginx.pid;
events { worker_connections 1024; }
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /var/log/nginx/access.log;
    sendfile on;
    keepalive_timeout 65;
    include /etc/nginx/conf.d/*.conf;
}
"""
NGINX_SERVER = b"""server {
    listen 80;
    server_name localhost;
    location / { root /usr/share/nginx/html; index index.html; }
}
"""
NGINX_ENTRYPOINT = b"""#!/bin/sh
set -e
if [ "$1" = nginx ] && [ -d /docker-entrypoint.d ]; then
  for script in /docker-entrypoint.d/*.sh; do [ -x "$script" ] && "$script"; done
fi
exec "$@"
"""


def nginx(packages):
    """Like the official image: logs to the container's output, a script before the program, SIGQUIT to stop."""
    files = packages.unpack(NGINX)
    lower = base(packages).tree(files, leave=("usr/share", "lib/systemd", "etc", "var", "usr/sbin/nginx", "usr/lib/nginx"))
    upper = Layer().add("usr/sbin/nginx", content=(files / "usr/sbin/nginx").read_bytes(), mode=0o755)
    for path in ("etc/nginx", "etc/nginx/conf.d", "usr/share/nginx", "usr/share/nginx/html", "var/log/nginx", "docker-entrypoint.d"):
        upper.folder(path)
    upper.folder("var/cache/nginx").folder("var/lib/nginx")
    upper.add("etc/nginx/nginx.conf", content=NGINX_CONF).add("etc/nginx/conf.d/default.conf", content=NGINX_SERVER)
    upper.add("etc/nginx/mime.types", content=(files / "etc/nginx/mime.types").read_bytes())
    upper.add("usr/share/nginx/html/index.html", content=b"<h1>Welcome to nginx!</h1>\n")
    upper.add("docker-entrypoint.sh", content=NGINX_ENTRYPOINT, mode=0o755)
    upper.add("docker-entrypoint.d/10-say.sh", content=b"#!/bin/sh\necho ready for start up\n", mode=0o755)
    upper.symlink("var/log/nginx/access.log", "/dev/stdout").symlink("var/log/nginx/error.log", "/dev/stderr")
    return [lower.bytes(), upper.bytes()], dict(
        Entrypoint=["/docker-entrypoint.sh"], Cmd=["nginx", "-g", "daemon off;"], StopSignal="SIGQUIT",
        ExposedPorts={"80/tcp": {}}, Env=["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "NGINX_VERSION=1.22.1"])


REDIS_ENTRYPOINT = b"""#!/bin/sh
set -e
if [ "${1#-}" != "$1" ] || [ "${1%.conf}" != "$1" ]; then
  set -- redis-server "$@"
fi
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
  find . \\! -user redis -exec chown redis '{}' +
  exec /usr/bin/setpriv --reuid redis --regid redis --clear-groups "$0" "$@"
fi
if [ "$1" = redis-server ] && [ "$(umask)" = 0022 ]; then umask 0077; fi
# The official image is built so: in a container the network is the protection.
[ "$1" != redis-server ] || set -- "$@" --protected-mode no
exec "$@"
"""


def redis(packages):
    """Like the official image: a volume for its data, which a script gives to the user that it becomes."""
    files = packages.unpack(REDIS)
    setpriv = packages.unpack(SETPRIV)
    lower = base(packages).tree(files, leave=("usr/share", "lib/systemd", "etc", "var", "usr/bin"))
    upper = Layer().tree(files, leave=("usr/share", "lib", "usr/lib", "lib64", "etc", "var"))
    upper.add("usr/bin/setpriv", content=(setpriv / "usr/bin/setpriv").read_bytes(), mode=0o755)
    for library in sorted((setpriv / "lib").rglob("libcap-ng.so*")) + sorted((setpriv / "usr/lib").rglob("libcap-ng.so*")):
        name = str(library.relative_to(setpriv))
        upper.symlink(name, os.readlink(library)) if library.is_symlink() else upper.add(name, content=library.read_bytes())
    script = Layer().folder("usr/local").folder("usr/local/bin").folder("data", uid=999, gid=999)
    script.add("usr/local/bin/docker-entrypoint.sh", content=REDIS_ENTRYPOINT, mode=0o755)
    # What an earlier layer brought and a later one does not want.
    script.add("usr/bin/.wh.redis-benchmark").add("var/lib/.wh..wh..opq")
    return [lower.bytes(), upper.bytes(), script.bytes()], dict(
        Entrypoint=["docker-entrypoint.sh"], Cmd=["redis-server"], WorkingDir="/data", Volumes={"/data": {}},
        ExposedPorts={"6379/tcp": {}}, Env=["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "REDIS_VERSION=7.0.15"])


def busybox(packages):
    return [base(packages).bytes()], dict(Cmd=["sh"], Env=["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"])


def guestbook(folder):
    """A static program and nothing else, run by nobody."""
    program = pathlib.Path(folder) / "guestbook"
    subprocess.run(["rustc", "--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols",
                    "-o", program, HERE / "guestbook.rs"], check=True)
    layer = Layer().add("guestbook", content=program.read_bytes(), mode=0o755)
    return [layer.bytes()], dict(Entrypoint=["/guestbook"], User="65532:65532", ExposedPorts={"8080/tcp": {}})
