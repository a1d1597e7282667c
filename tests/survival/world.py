"""What the survival tests share: an engine with pods, who kills what of it, who asks it, and what it has left on the machine."""
import collections, datetime, http.client, json, os, pathlib, random, re, signal, subprocess, sys, threading, time
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from engine import Engine

SUPERVISOR, KEEPER = "sluice-pod", "sluice-keeper"
# After an engine has started, everything that ran without it is seen again.
ADOPTED_WITHIN_S = 3
# Engines that are killed every few seconds get on slowly, on a busy machine more so.
PATIENCE_S = 180


def pod(name, script, driver, shared=None, **spec):
    """A pod of one container with a shell script; `shared` is a directory of the machine that it sees under the same path."""
    container = {"name": "c", "image": "host", "command": ["/bin/sh", "-c", script], **spec.pop("container", {})}
    spec = {"terminationGracePeriodSeconds": 5, **spec}
    # A process sees the machine's files anyway.
    if shared and driver == "container":
        container["volumeMounts"] = [{"name": "shared", "mountPath": shared}]
        spec["volumes"] = [{"name": "shared", "hostPath": {"path": shared}}]
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {**spec, "containers": [container]}})


class Client(threading.Thread):
    """Asks all the time, and counts what failed. `where` gives address, port and epoch, or nothing while nobody is to be asked."""
    def __init__(self, name, where, host=None):
        super().__init__(daemon=True)
        self.name, self.where, self.asked, self.failed, self.over = name, where, 0, [], False
        self.headers = {"Host": host} if host else {}

    def run(self):
        while not self.over:
            before = self.where()
            if before:
                began = time.time()
                problem = self.ask(before)
                # A killed gateway takes its connections with it; what began and ended without a kill must be well.
                if before == self.where():
                    self.asked += 1
                    if problem:
                        self.failed.append(f"{self.name} at {began:.3f}: {problem}")
            time.sleep(0.005)

    def ask(self, where):
        try:
            connection = http.client.HTTPConnection(where[0], where[1], timeout=10)
            connection.request("GET", "/", headers=self.headers)
            answer = connection.getresponse()
            answer.read()
            connection.close()
            return None if answer.status == 200 else f"status {answer.status}"
        except (OSError, http.client.HTTPException) as error:
            return repr(error)


class World:
    def __init__(self, sluice, driver, seed):
        self.driver, self.rng = driver, random.Random(seed)
        self.engine = Engine(sluice, "--driver", driver)
        self.shared = self.engine.dir + "/shared"
        os.mkdir(self.shared)
        self.epoch, self.up, self.down_s, self.unseen = 0, True, 0.0, 0
        self.uids, self.headless = set(), {}
        # By pod: when nobody was there to see how a container ends, neither engine nor supervisor nor keeper.
        self.blind = collections.defaultdict(list)

    def patiently(self, work, seconds=PATIENCE_S):
        """Does something that needs the API, however often that is killed meanwhile."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return work()
            except (RuntimeError, json.JSONDecodeError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def apply(self, manifest):
        self.patiently(lambda: self.engine.apply(manifest))

    def pods(self):
        found = self.patiently(lambda: self.engine.get("pods"))["items"]
        self.uids |= {p["metadata"]["uid"] for p in found}
        return {p["metadata"]["name"]: p for p in found}

    def until(self, what, condition, seconds=PATIENCE_S):
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"waited {seconds} s until {what}")
            time.sleep(0.05)
        return value

    def directory(self, uid):
        return pathlib.Path(self.engine.dir) / "data/pods" / uid

    def gateway(self):
        host, port = self.engine.gateway.split(":")
        return (host, int(port), self.epoch) if self.up else None

    def keepers(self, uid=None):
        """Supervisors and keepers, of one pod or of all, as (name, id)."""
        where = str(self.directory(uid)) if uid else str(pathlib.Path(self.engine.dir) / "data/pods")
        all_here = {pid: (comm, parent) for pid, comm, parent, cwd in processes() if comm in (SUPERVISOR, KEEPER) and cwd.startswith(where)}
        # A supervisor's child of its name is no supervisor: it is a container whose program has not begun yet.
        return [(comm, pid) for pid, (comm, parent) in all_here.items() if all_here.get(parent, ("",))[0] != SUPERVISOR]

    def kill_pod(self, uid, *comms):
        victims = [pid for comm, pid in self.keepers(uid) if comm in comms]
        # Whoever is left of a keeper and its supervisor starts the other one again: stopped first, they die together.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in victims:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass

    def kill_pods(self, uids, comms):
        for uid in uids:
            self.kill_pod(uid, *comms)
            if set(comms) == {SUPERVISOR, KEEPER}:
                self.headless[uid] = time.time()
        if not self.up:
            self.go_blind()

    def kill_engine(self):
        self.up, self.epoch, self.down_since = False, self.epoch + 1, time.time()
        self.engine.kill()
        self.go_blind()

    def go_blind(self):
        """Without an engine nobody sees the pods that have lost both supervisor and keeper and have not got others yet."""
        for uid, since in self.headless.items():
            if not self.keepers(uid):
                self.blind[uid].append([since, None])
        self.headless.clear()

    def start_engine(self):
        began = time.monotonic()
        self.engine.start()
        self.epoch, self.up = self.epoch + 1, True
        # It takes a moment until the last pod is found again.
        self.down_s += time.time() - self.down_since + ADOPTED_WITHIN_S
        for windows in self.blind.values():
            for window in windows:
                window[1] = window[1] or time.time() + ADOPTED_WITHIN_S
        return time.monotonic() - began

    def adopted(self):
        """Whether every supervisor is spoken to."""
        unix = pathlib.Path("/proc/net/unix").read_text().splitlines()
        open_sockets = {f"socket:[{line.split()[6]}]" for line in unix if line.endswith(" supervisor.sock") and line.split()[5] == "03"}
        def spoken_to(pid):
            try:
                return any(os.readlink(fd) in open_sockets for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir())
            except OSError:
                return True
        return all(spoken_to(pid) for comm, pid in self.keepers() if comm == SUPERVISOR)

    def was_blind(self, uid, ended):
        """Whether a container ended when nobody could see how, and so may count as ended in an unknown way."""
        finished = datetime.datetime.fromisoformat(ended["finishedAt"]).timestamp()
        blind = ended["reason"] == "ContainerStatusUnknown" and any(
            since - 1 <= finished and (until is None or finished <= until) for since, until in self.blind[uid])
        self.unseen += blind
        return blind

    def remove(self, name):
        """Deletes a pod and waits until it is gone, whatever is killed meanwhile. Returns when the API had the order."""
        def delete():
            if name in self.pods():
                self.engine.run("delete", "pod", name, "--no-wait", "--ignore-not-found")
            return time.time()
        ordered = self.patiently(delete)
        self.until(f"{name} is gone", lambda: name not in self.pods())
        return ordered

    def log_file(self, uid, start=0, container="c"):
        return next((pathlib.Path(self.engine.dir) / "data/logs").glob(f"*_{uid}")) / container / f"{start}.log"

    def log_lines(self, uid, start, container="c"):
        """The log of one start of a container, whole, oldest first, as (stream, text)."""
        directory = self.log_file(uid, start, container).parent
        number = lambda file: -int((re.findall(r"\.log\.(\d+)$", file.name) or ["0"])[0])
        files = sorted(directory.glob(f"{start}.log*"), key=number)
        parts = [line.split(" ", 3) for file in files for line in file.read_text().splitlines()]
        return [(part[1], part[3]) for part in parts]

    def left(self):
        """What this machine still has of this engine's pods."""
        words = lambda *command: subprocess.run(command, text=True, capture_output=True).stdout
        mine = lambda text: self.engine.dir in text
        processes_left = {pid: comm for pid, comm, _, cwd in processes() if mine(cwd) and pid != self.engine.process.pid}
        roots = [path for root in pathlib.Path("/sys/fs/cgroup").iterdir() for path in (root, root.parent)]
        groups = {str(group) for root in roots for uid in self.uids for group in (root / "sluice").glob(f"pod{uid}")}
        ports = {f"sl{fnv1a(uid):08x}" for uid in self.uids}
        links = {name for line in words("ip", "-o", "link").splitlines() if (name := line.split(":")[1].strip())[:10] in ports}
        data = pathlib.Path(self.engine.dir) / "data"
        files = [str(path) for kind in ("pods", "logs") for path in (data / kind).glob("*")]
        mounts = [line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines() if mine(line)]
        sockets = [line.split()[-1] for line in pathlib.Path("/proc/net/unix").read_text().splitlines() if mine(line) and "/pods/" in line]
        found = {"processes": processes_left, "groups": groups, "links": links, "files": files, "mounts": mounts, "sockets": sockets}
        return {kind: things for kind, things in found.items() if things}


class Follower(threading.Thread):
    """Reads a log while it is written and rotated, as `tail -F` does, but without missing a file that was put aside."""
    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.lines, self.over, self.rotations = pathlib.Path(path), [], threading.Event(), 0

    def run(self):
        rest = b""
        # What was put aside before we came is read, too.
        file = next(file.open("rb") for file in reversed(self.files()) if file.exists())
        while True:
            last = self.over.is_set()
            rest += file.read()
            *whole, rest = rest.split(b"\n")
            self.lines += [line.split(b" ", 3) for line in whole]
            if whole:
                continue
            if next_file := self.newer(os.fstat(file.fileno()).st_ino):
                # What came in between the look at the end and the rename.
                rest += file.read()
                *whole, rest = rest.split(b"\n")
                self.lines += [line.split(b" ", 3) for line in whole]
                file, self.rotations = next_file, self.rotations + 1
            elif last:
                return
            else:
                time.sleep(0.02)

    def files(self):
        return [self.path, *(self.path.with_name(f"{self.path.name}.{number}") for number in range(1, 5))]

    def newer(self, inode):
        """The file that was begun after this one."""
        following = None
        for file in self.files():
            try:
                opened = file.open("rb")
            except FileNotFoundError:
                continue
            if os.fstat(opened.fileno()).st_ino == inode:
                return following
            following = opened
        return None


def processes():
    """Everything that runs, as (id, name, parent, directory)."""
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = entry.joinpath("stat").read_text().rsplit(")", 1)[1].split()[:2]
                if state != "Z":
                    yield int(entry.name), entry.joinpath("comm").read_text().strip(), int(parent), str(entry.joinpath("cwd").readlink())
            except OSError:
                pass


def fnv1a(text):
    value = 0x811c9dc5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 & 0xffffffff
    return value


def gaps(numbers):
    """Where a row of numbers does not go on by one."""
    return [(a, b) for a, b in zip(numbers, numbers[1:]) if b != a + 1]
