"""A `sluice up` of its own for a script: started, asked, killed, started again."""
import json, os, pathlib, shutil, signal, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHOP = (ROOT / "docs/shop.yaml").read_text()


def connect_outward():
    """Loopback, and a way out that leads nowhere."""
    for words in (["link", "set", "lo", "up"], ["link", "add", "out", "type", "veth", "peer", "name", "far"],
                  ["addr", "add", "192.0.2.2/24", "dev", "out"], ["link", "set", "out", "up"], ["link", "set", "far", "up"],
                  ["route", "add", "default", "via", "192.0.2.1"]):
        subprocess.run(["ip", *words], check=True)


def settle_in():
    """Makes a network namespace a place to live in: loopback, a way out, and a `/sys` that shows its interfaces."""
    connect_outward()
    # Control groups stay those of the machine.
    subprocess.run(["sh", "-ec", "groups=$(mktemp -d); mount --rbind /sys/fs/cgroup $groups; mount -t sysfs sysfs /sys; "
                    "mount --rbind $groups /sys/fs/cgroup; umount -l $groups; rmdir $groups"], check=True)


class Engine:
    def __init__(self, sluice, *flags):
        self.sluice, self.flags = os.path.abspath(sluice), flags
        self.dir = tempfile.mkdtemp(prefix="sluice-test-")
        self.api = self.gateway = "127.0.0.1:0"
        self.start()

    def start(self):
        self.log = open(self.dir + "/engine.log", "a")
        self.process = subprocess.Popen(
            [self.sluice, "up", "--data", self.dir + "/data", "--api", self.api, "--gateway", self.gateway, "-o", "json", *self.flags],
            stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        if not line:
            sys.exit("the engine did not start:\n" + open(self.dir + "/engine.log").read())
        self.ready = json.loads(line)
        # The same addresses after a restart: clients go on where they were.
        self.api = self.ready["api"].removeprefix("https://")
        self.gateway = self.ready["gateway"].removeprefix("http://")
        self.env = {**os.environ, "KUBECONFIG": self.ready["kubeconfig"]}

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def run(self, *words, stdin=None):
        done = subprocess.run([self.sluice, *words], env=self.env, input=stdin, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode:
            raise RuntimeError(f"sluice {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def get(self, *words):
        return json.loads(self.run("get", *words, "-o", "json"))

    def apply(self, text):
        self.run("apply", "--force", "-f", "-", stdin=text)

    def load(self, rate, seconds):
        return subprocess.Popen([self.sluice, "load", f"http://{self.gateway}/", "--rate", str(rate), "--for", f"{seconds}s", "-o", "json"],
                                stdout=subprocess.PIPE, text=True)

    def until(self, what, condition, seconds=60):
        deadline = time.monotonic() + seconds
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                raise RuntimeError(f"waited {seconds} s until {what}\n" + self.run("rollout", "get", "shop"))
            time.sleep(0.05)

    def status(self):
        return self.get("rollout", "shop").get("status", {})

    def stop(self):
        """Ends the engine and every pod with it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
        # Pods outlive an engine that was killed: a last engine takes them down.
        last = Engine.__new__(Engine)
        last.__dict__.update(self.__dict__)
        last.flags = (*self.flags, "--stop-pods")
        last.start()
        last.process.send_signal(signal.SIGTERM)
        code = last.process.wait(60)
        shutil.rmtree(self.dir, ignore_errors=True)
        return code


def version(tag, errors=None):
    """The shop's Deployment at another version, perhaps a sick one."""
    deployment = SHOP.split("---")[0].replace("demo:v1", f"demo:{tag}")
    if errors:
        deployment = deployment.rstrip() + f'\n        env: [{{name: DEMO_ERRORS, value: "{errors}"}}]\n'
    return deployment
