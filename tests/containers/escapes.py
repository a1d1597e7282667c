"""What a container tries in order to get out, and how each try is refused.

Every try prints one line: what was tried, and the refusal.
"""
import hashlib, io, json, os, pathlib, re, subprocess, tarfile, threading

# A disk of the machine, by its numbers.
DISK = tuple(map(int, pathlib.Path("/proc/partitions").read_text().splitlines()[2].split()[:2]))

# Runs inside a container, as its first process or by `exec`: one line for each try.
TRIES = r'''
import ctypes, errno, os, socket, stat, sys
libc = ctypes.CDLL(None, use_errno=True)

def said(what, act):
    try:
        answer = act()
    except OSError as error:
        answer = errno.errorcode.get(error.errno, error.errno)
    print(f"{what}: {answer}", flush=True)

def call(number, *arguments):
    ctypes.set_errno(0)
    words = [ctypes.c_char_p(a) if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments]
    if libc.syscall(ctypes.c_long(number), *words) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return "DONE"

def write(path, text):
    descriptor = os.open(path, os.O_WRONLY)
    os.write(descriptor, text.encode())
    return "DONE"

def content(path):
    with open(path, "rb") as file:
        return f"{len(file.read(4096))} bytes"

def descriptors():
    held = {int(name): os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{name}")}
    held = {number: target for number, target in held.items() if number > 2}
    return f"{len(held)} beyond its streams" + (f" {held}" if held else "")

def block_device():
    os.mknod("/tmp/disk", 0o600 | stat.S_IFBLK, os.makedev(*DISK))
    return content("/tmp/disk")

def raw_memory():
    os.mknod("/tmp/memory", 0o600 | stat.S_IFCHR, os.makedev(1, 1))
    return content("/tmp/memory")

def climb():
    # The classic way out of a chroot: a working directory above the new root.
    root = os.stat("/")
    os.makedirs("/tmp/jail", exist_ok=True)
    descriptor = os.open("/", os.O_RDONLY)
    child = os.fork()
    if child == 0:
        os.chroot("/tmp/jail"); os.fchdir(descriptor)
        for _ in range(64):
            os.chdir("..")
        here = os.stat(".")
        os._exit(0 if (here.st_dev, here.st_ino) == (root.st_dev, root.st_ino) else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(descriptor)
    return "its own root" if code == 0 else "OUTSIDE"

def others():
    # As many as this container has; the machine has hundreds.
    return "only its own" if len([p for p in os.listdir("/proc") if p.isdigit()]) < 12 else "MANY"

said("descriptors", descriptors)
said("processes it sees", others)
said("working directory", lambda: "inside" if os.getcwd().startswith("/") and os.path.samefile(os.getcwd(), "/proc/self/cwd") else "OUTSIDE")
said("chroot and climb", climb)
said("mknod and read a disk of the machine", block_device)
said("mknod and read the machine's memory", raw_memory)
for device in ("mem", "kmem", "port", "kmsg", "vda", "sda", "loop0", "kvm", "fuse", "net/tun"):
    said(f"open /dev/{device}", lambda: content(f"/dev/{device}"))
said("mount a tmpfs", lambda: call(165, b"none", b"/mnt", b"tmpfs", 0, 0))
said("mount proc anew", lambda: call(165, b"proc", b"/mnt", b"proc", 0, 0))
said("remount /proc/sys for writing", lambda: call(165, b"none", b"/proc/sys", 0, 32 | 4096, 0))
said("remount /sys for writing", lambda: call(165, b"none", b"/sys", 0, 32, 0))
said("unmount a masked path", lambda: call(166, b"/proc/kcore", 2))
said("fsopen", lambda: call(430, b"tmpfs", 0))
said("open_tree", lambda: call(428, -100, b"/", 1))
said("move_mount", lambda: call(429, -100, b"/tmp", -100, b"/mnt", 0))
said("pivot_root", lambda: call(155, b"/tmp", b"/tmp"))
said("unshare a user namespace", lambda: call(272, 0x10000000))
said("unshare a mount namespace", lambda: call(272, 0x20000))
said("clone into a user namespace", lambda: call(56, 0x10000000 | 17, 0, 0, 0, 0))
said("clone3", lambda: call(435, 0, 0))
said("setns to its first process", lambda: call(308, os.open("/proc/1/ns/mnt", os.O_RDONLY), 0))
said("open_by_handle_at", lambda: call(304, -100, 0, 0))
said("bpf", lambda: call(321, 0, 0, 0))
said("perf_event_open", lambda: call(298, 0, 0, -1, -1, 0))
said("userfaultfd", lambda: call(323, 0))
said("io_uring_setup", lambda: call(425, 1, 0))
said("keyctl", lambda: call(250, 0, -3, 0))
said("kexec_load", lambda: call(246, 0, 0, 0, 0))
said("init_module", lambda: call(175, 0, 0, b""))
said("reboot", lambda: call(169, 0xfee1dead, 672274793, 0, 0))
said("swapon", lambda: call(167, b"/tmp/none", 0))
said("settimeofday", lambda: call(164, 0, 0))
said("sethostname", lambda: call(170, b"other", 5))
said("iopl", lambda: call(172, 3))
said("syslog", lambda: call(103, 3, 0, 0))
for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches",
             "/proc/irq/default_smp_affinity", "/sys/kernel/uevent_helper", "/sys/fs/cgroup/memory/memory.limit_in_bytes",
             "/sys/fs/cgroup/devices/devices.allow", "/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/memory.max",
             "/sys/fs/cgroup/cgroup.subtree_control", "/sys/fs/cgroup/cgroup.procs"):
    said(f"write {path}", lambda: write(path, "1"))
for path in ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts"):
    said(f"read {path}", lambda: content(path))
said("list /sys/firmware", lambda: f"{len(os.listdir('/sys/firmware'))} entries")
said("a packet socket of the machine", lambda: "its own links: " + " ".join(sorted(os.listdir("/sys/class/net"))))
said("no_new_privs", lambda: open("/proc/self/status").read().split("NoNewPrivs:")[1].split()[0])
said("filter", lambda: open("/proc/self/status").read().split("Seccomp:")[1].split()[0])
'''

REFUSED = {"EPERM", "EACCES", "EROFS", "ENOENT", "ENOSYS", "ENXIO", "0 bytes", "0 entries", "0 beyond its streams", "its own root", "inside",
           "only its own", "its own links: eth0 lo"}
# What says in numbers that it is confined.
STATED = {"no_new_privs": "1", "filter": "2"}


def judge(how, text):
    lines = [line for line in text.splitlines() if ": " in line]
    for line in lines:
        what, _, answer = line.partition(": ")
        assert answer in REFUSED or STATED.get(what) == answer, f"{how}: {line}"
        print(f"{how}: {line}", flush=True)
    assert len(lines) > 50, f"{how}: only {len(lines)} tries\n{text}"


def tries(node, sh, pod):
    """By the container's own process, and by a command that is run in it."""
    place = pathlib.Path(node.engine.dir, "tries")
    place.mkdir()
    (place / "tries.py").write_text(f"DISK = {DISK}\n{TRIES}")
    volumes = {"volumes": [{"name": "t", "hostPath": {"path": str(place)}}]}
    mounts = [{"name": "t", "mountPath": "/t"}]
    _, log = node.ended(pod("escapes", ["python3", "/t/tries.py"], volumes, volumeMounts=mounts))
    judge("first process", log)
    hook = {"postStart": {"exec": {"command": ["sh", "-c", "python3 /t/tries.py > /t/by-exec 2>&1"]}}}
    node.started(sh("escapes-by-exec", "sleep 1000", volumes, volumeMounts=mounts, lifecycle=hook))
    judge("by exec", (place / "by-exec").read_text())
    node.delete("escapes-by-exec")


def working_directories(node, pod):
    """A descriptor of the runtime as working directory (CVE-2024-21626)."""
    look = ["python3", "-c", "import os; print('inside' if os.path.exists('/proc/self/cwd/.') and os.getcwd().startswith('/') else 'OUTSIDE', os.getcwd())"]
    for base in ("/proc/self/fd", "/proc/1/fd", "/proc/thread-self/fd"):
        manifest = json.loads(pod("cwd" + base.replace("/", "-").replace("proc", "").strip("-").replace("--", "-"), look))
        first = manifest["spec"]["containers"][0]
        manifest["spec"]["containers"] = [{**first, "name": f"fd{n}", "workingDir": f"{base}/{n}"} for n in range(3, 16)]
        ends = node.all_ended(json.dumps(manifest))
        for name, (end, log) in sorted(ends.items()):
            assert "OUTSIDE" not in log and "(unreachable)" not in log, f"{base}/{name}: {log}"
        refused = sum(end["reason"] in ("StartError", "RunContainerError") for end, _ in ends.values())
        print(f"working directory {base}/3 to 15: {refused} of {len(ends)} refused, none outside", flush=True)
        node.delete(manifest["metadata"]["name"])


def swapped_sub_paths(node, sh):
    """A directory that is exchanged with a link while containers are started on it."""
    shared, outside = pathlib.Path(node.engine.dir, "swapped"), pathlib.Path(node.engine.dir, "outside")
    shared.mkdir(), outside.mkdir()
    (outside / "secret").write_text("secret")
    (shared / "dir").mkdir()
    (shared / "link").symlink_to(outside)
    stop = threading.Event()

    def exchange():
        import ctypes
        libc = ctypes.CDLL(None)
        while not stop.is_set():
            libc.renameat2(-100, bytes(shared / "dir"), -100, bytes(shared / "link"), 2)

    swapping = threading.Thread(target=exchange)
    swapping.start()
    try:
        manifest = json.loads(sh("swapped", "cat /w/secret 2>/dev/null; true", {"volumes": [{"name": "v", "hostPath": {"path": str(shared)}}]}))
        first = manifest["spec"]["containers"][0]
        paths = ["dir", "link", "dir/sub", "link/sub"]
        manifest["spec"]["containers"] = [{**first, "name": f"c{n}", "volumeMounts": [{"name": "v", "mountPath": "/w", "subPath": paths[n % 4]}]} for n in range(24)]
        ends = node.all_ended(json.dumps(manifest))
    finally:
        stop.set()
        swapping.join()
    assert all("secret" not in log for _, log in ends.values()), ends
    assert sorted(os.listdir(outside)) == ["secret"], os.listdir(outside)
    print(f"subPath exchanged with a link while {len(ends)} containers start: none saw or changed what lies outside", flush=True)
    node.delete("swapped")


class ImageFile:
    """A docker archive, as anybody could write one."""

    def __init__(self, name, layers, **config):
        self.name, self.layers, self.config = name, layers, config

    def write(self, path):
        blobs = [self.layer(entries) for entries in self.layers]
        config = json.dumps({"architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine], "os": "linux",
            "config": self.config, "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(b).hexdigest() for b in blobs]}}).encode()
        with tarfile.open(path, "w") as archive:
            def add(name, data):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            add("config.json", config)
            for number, blob in enumerate(blobs):
                add(f"{number}.tar", blob)
            add("manifest.json", json.dumps([{"Config": "config.json", "RepoTags": [self.name],
                "Layers": [f"{n}.tar" for n in range(len(blobs))]}]).encode())

    @staticmethod
    def layer(entries):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, kind, value in entries:
                info = tarfile.TarInfo(name)
                info.mode = 0o755
                data = None
                if kind == "file":
                    info.size, data = len(value), io.BytesIO(value)
                elif kind == "dir":
                    info.type = tarfile.DIRTYPE
                elif kind in ("symlink", "hardlink"):
                    info.type, info.linkname = (tarfile.SYMTYPE if kind == "symlink" else tarfile.LNKTYPE), value
                elif kind == "block":
                    info.type, (info.devmajor, info.devminor) = tarfile.BLKTYPE, value
                tar.addfile(info, data)
        return out.getvalue()


def programs(*names):
    """Programs of this machine with the libraries that they need, as entries of a layer."""
    entries = {}
    for name in names:
        path = subprocess.run(["sh", "-c", f"command -v {name}"], capture_output=True, text=True, check=True).stdout.strip()
        entries[f"bin/{name}"] = os.path.realpath(path)
        for library in re.findall(r"(/\S+) \(0x", subprocess.run(["ldd", path], capture_output=True, text=True).stdout):
            entries[library.lstrip("/")] = os.path.realpath(library)
    return [(name, "file", pathlib.Path(path).read_bytes()) for name, path in entries.items()]


def images(node, pod):
    """Layers that write beside the image, and images whose own directories are links."""
    engine, base = node.engine, programs("sh", "cat", "ls")
    marks = pathlib.Path(engine.dir, "marks")
    marks.mkdir()
    archive = engine.dir + "/image.tar"
    victim = marks / "victim"
    victim.write_text("untouched")

    def load(name, *layers, **config):
        ImageFile(name, [base, *layers], **config).write(archive)
        done = subprocess.run([engine.sluice, "image", "load", archive, "--data", engine.dir + "/data"], capture_output=True, text=True)
        return done.returncode, (done.stdout + done.stderr).strip().replace(engine.dir, "DIR")

    up = "../" * 24
    out = str(marks).lstrip("/")
    layers = {
        "an entry with `..`": [(f"{up}{out}/escaped", "file", b"x")],
        "an absolute entry": [(f"/{out}/escaped", "file", b"x")],
        "a file through an absolute link": [("door", "symlink", str(marks)), ("door/escaped", "file", b"x")],
        "a file through a relative link": [("door", "symlink", up + out), ("door/escaped", "file", b"x")],
        "a hard link to a file outside": [("victim", "hardlink", str(victim)), ("victim", "file", b"x")],
        "a hard link by `..`": [("victim", "hardlink", f"{up}{out}/victim"), ("victim", "file", b"x")],
        "a hard link to a link": [("door", "symlink", str(victim)), ("victim", "hardlink", "door"), ("victim", "file", b"x")],
        "a whiteout by `..`": [(f"{up}{out}/.wh.victim", "file", b"")],
        "a directory where a link was": [("door", "symlink", str(marks)), ("door", "dir", None), ("door/escaped", "file", b"x")],
    }
    for number, (what, entries) in enumerate(layers.items()):
        code, said = load(f"layers.test/escape:{number}", entries)
        assert sorted(os.listdir(marks)) == ["victim"] and victim.read_text() == "untouched" and victim.stat().st_nlink == 1, what
        outcome = "refused, " + said.splitlines()[-1] if code else "stays inside"
        print(f"a layer with {what}: {outcome}", flush=True)

    # What a runtime mounts over or hides must be what it seems (CVE-2025-31133, -52565, -52881).
    link = lambda name, target: (name, "symlink", target)
    trees = {
        "/proc as a link": ([link("proc", "/tmp")], {}),
        "/sys as a link": ([link("sys", "/proc/sys")], {}),
        "/dev as a link": ([link("dev", "/proc/sys/kernel")], {}),
        "/dev/null as a link": ([("dev", "dir", None), link("dev/null", "/proc/sys/kernel/core_pattern")], {}),
        "/dev/console as a link": ([("dev", "dir", None), link("dev/console", "/proc/sysrq-trigger")], {}),
        "/dev/pts as a link": ([("dev", "dir", None), link("dev/pts", "/proc")], {}),
        "/etc as a link to /proc/sys/kernel": ([link("etc", "/proc/sys/kernel"), ("proc", "dir", None)], {}),
        "/etc/hosts as a link outside": ([("etc", "dir", None), link("etc/hosts", str(victim))], {}),
        "a working directory that leads outside": ([link("door", str(marks))], {"WorkingDir": "/door"}),
        "a volume that leads outside": ([link("door", str(marks))], {"Volumes": {"/door": {}, "/door/../../x": {}}}),
        "a disk of the machine as a device": ([("disk", "block", DISK)], {}),
    }
    script = ("cat /victim /door/victim victim 2>/dev/null; echo x > /proc/sys/kernel/core_pattern; echo x > /dev/console; "
              "echo 1 > /proc/sysrq-trigger; cat /disk; ls /proc/1 | cat; echo end")
    pattern = pathlib.Path("/proc/sys/kernel/core_pattern").read_text()
    for number, (what, (entries, config)) in enumerate(trees.items()):
        name = f"layers.test/tree:{number}"
        code, said = load(name, entries, Env=["PATH=/bin"], **config)
        if code:
            print(f"an image with {what}: refused, {said.splitlines()[-1]}", flush=True)
            continue
        manifest = json.loads(pod(f"tree-{number}", ["sh", "-c", f"({script}) 2>&1"], imagePullPolicy="Never"))
        manifest["spec"]["containers"][0]["image"] = name
        end, log = node.ended(json.dumps(manifest))
        assert pathlib.Path("/proc/sys/kernel/core_pattern").read_text() == pattern, what
        assert sorted(os.listdir(marks)) == ["victim"] and victim.read_text() == "untouched" and "untouched" not in log, (what, log)
        outcome = f"refused, {end['message'].strip().replace(engine.dir, 'DIR')}" if end["reason"] != "Completed" and "end" not in log else "stays inside"
        if "disk" in what:
            assert "Operation not permitted" in log, log
            outcome = "refused, " + [line for line in log.splitlines() if "disk" in line][0]
        print(f"an image with {what}: {outcome}", flush=True)
        node.delete(f"tree-{number}")


def tried(node, sh, pod):
    tries(node, sh, pod)
    working_directories(node, pod)
    swapped_sub_paths(node, sh)
    images(node, pod)
