#!/usr/bin/env python3
"""Does what deploy/Containerfile says, step by step, where no container engine runs.

The file itself is read and carried out, so that the rehearsal cannot drift from it: FROM is a
system made by debootstrap, RUN a chroot, COPY honours .dockerignore. The result is started like a
container with --read-only: its root cannot be written to, the volume and two tmpfs can, nobody but
the user of USER is there, and no capability. HEALTHCHECK, STOPSIGNAL, ENTRYPOINT and CMD are used
as they are written. It is started twice on the same volume.

Not rehearsed, and said so at the end: layers, the registry's own base image, the engine's seccomp
profile, networks and port publishing, compose.

Needs root, debootstrap, and Debian's and Python's packages from the network. Lent to the RUN steps
from this machine: its resolver, its certificates and pip's settings.

    python3 scripts/rehearse_container.py [--work DIR] [--keep]
"""

import argparse
import contextlib
import fnmatch
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
CONTAINERFILE = CHECKOUT / "deploy" / "Containerfile"
BASE = re.compile(r"docker\.io/library/debian:([a-z]+)-slim")
KNOWN = re.findall(
    "[A-Z]+", "FROM RUN COPY WORKDIR ENV LABEL USER VOLUME STOPSIGNAL HEALTHCHECK ENTRYPOINT CMD"
)
DEADLINE = 120.0  # seconds for the daemon to be healthy


def instructions(text: str) -> list[tuple[str, str]]:
    """(word, the rest) of each line; lines that go on are joined."""
    joined = re.sub(r"\\\n", " ", text)
    lines = [line.strip() for line in joined.splitlines()]
    found = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    pairs = [(word.upper(), rest) for word, rest in found]
    if unknown := {word for word, _ in pairs} - set(KNOWN):
        sys.exit(f"the rehearsal does not know {', '.join(sorted(unknown))}")
    return pairs


def ignored(path: pathlib.PurePath, rules: list[str]) -> bool:
    """What .dockerignore says of a path; the last rule that fits counts."""
    verdict = False
    for rule in rules:
        pattern = rule.removeprefix("!")
        if pattern.startswith("**/"):
            fits = any(fnmatch.fnmatch(part, pattern[3:]) for part in path.parts)
        else:
            heads = ["/".join(path.parts[: n + 1]) for n in range(len(path.parts))]
            fits = any(fnmatch.fnmatch(head, pattern) for head in heads)
        if fits:
            verdict = not rule.startswith("!")
    return verdict


def context(rules: list[str]) -> list[pathlib.Path]:
    """The files that an engine would be sent."""
    wanted = {rule.removeprefix("!").split("/")[0] for rule in rules if rule.startswith("!")}
    found = []
    for top in sorted(wanted):
        place = CHECKOUT / top
        files = [place] if place.is_file() else sorted(place.rglob("*"))
        found += [
            file
            for file in files
            if file.is_file() and not ignored(file.relative_to(CHECKOUT), rules)
        ]
    return found


class Stage:
    """One stage: a directory that becomes a root."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.directory = "/"
        self.user = "0:0"
        self.settings: dict[str, str] = {}

    def run(self, command: str) -> None:
        """A RUN step."""
        lent = {key: value for key, value in os.environ.items() if key.startswith("PIP_")}
        certificates = self.root / "lent-certificates.crt"
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", certificates)
        shutil.copy("/etc/resolv.conf", self.root / "etc/resolv.conf")
        lent["PIP_CERT"] = "/lent-certificates.crt"
        mounts = [f"mount -t proc proc {shlex.quote(str(self.root))}/proc"]
        if (wheels := os.environ.get("PIP_FIND_LINKS")) and os.path.isdir(wheels):
            (self.root / "lent-wheels").mkdir(exist_ok=True)
            mounts.append(f"mount --bind {shlex.quote(wheels)} {self.root}/lent-wheels")
            lent["PIP_FIND_LINKS"] = "/lent-wheels"
        inner = f"cd {shlex.quote(self.directory)} && {command}"
        script = " && ".join([*mounts, f"exec chroot {self.root} /bin/sh -c {shlex.quote(inner)}"])
        done = subprocess.run(
            ["unshare", "--mount", "/bin/sh", "-c", script],
            env={**self.environment, **lent, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )
        certificates.unlink()
        with contextlib.suppress(FileNotFoundError):
            (self.root / "lent-wheels").rmdir()
        if done.returncode != 0:
            sys.exit(f"RUN {command}\nfailed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")

    def copy(self, rest: str, stages: dict[str, "Stage"], files: list[pathlib.Path]) -> None:
        """A COPY step."""
        words = rest.split()
        source_stage = None
        if words[0].startswith("--from="):
            source_stage = stages[words.pop(0).removeprefix("--from=")]
        *sources, target = words
        goal = self.root / (pathlib.PurePosixPath(self.directory) / target).relative_to("/")
        for source in sources:
            if source_stage is not None:
                place = source_stage.root / source.lstrip("/")
                subprocess.run(["cp", "-a", f"{place}/.", str(made(goal))], check=True)
            elif (CHECKOUT / source).is_file():
                if CHECKOUT / source not in files:
                    sys.exit(f"COPY {source}: .dockerignore leaves it out")
                inside = goal / pathlib.Path(source).name if target.endswith("/") else goal
                made(inside.parent)
                shutil.copy(CHECKOUT / source, inside)
            else:
                for file in files:
                    if file.is_relative_to(CHECKOUT / source):
                        inside = goal / file.relative_to(CHECKOUT / source)
                        made(inside.parent)
                        shutil.copy(file, inside)


def made(directory: pathlib.Path) -> pathlib.Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def build(work: pathlib.Path) -> Stage:
    """All stages; the last one."""
    rules = [
        line.strip()
        for line in (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    files = context(rules)
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    for word, rest in instructions(CONTAINERFILE.read_text(encoding="utf-8")):
        began = time.monotonic()
        if word == "FROM":
            image, _, name = rest.partition(" AS ")
            stage = stages[name or "final"] = Stage(work / (name or "final"))
            shutil.rmtree(stage.root, ignore_errors=True)
            subprocess.run(["cp", "-a", str(base(image, work)), str(stage.root)], check=True)
        elif stage is None:
            sys.exit(f"{word} comes before FROM")
        elif word == "RUN":
            stage.run(rest)
        elif word == "COPY":
            stage.copy(rest, stages, files)
        elif word == "WORKDIR":
            stage.directory = rest
            made(stage.root / rest.lstrip("/"))
        elif word == "ENV":
            key, _, value = rest.partition("=")
            stage.environment[key] = value.strip('"')
        elif word == "USER":
            stage.user = rest
        else:
            stage.settings[word] = rest
        print(f"{time.monotonic() - began:6.1f} s  {word} {rest[:70]}", file=sys.stderr)
    if stage is None:
        sys.exit("the file has no FROM")
    return stage


def base(image: str, work: pathlib.Path) -> pathlib.Path:
    """A system in the place of the registry's image."""
    found = BASE.fullmatch(image)
    if found is None:
        sys.exit(f"the rehearsal can only make Debian's slim images, not {image}")
    place = work / f"base-{found[1]}"
    if not (place / "etc/debian_version").exists():
        draft = work / f"draft-{found[1]}"
        shutil.rmtree(draft, ignore_errors=True)
        command = ["debootstrap", "--variant=minbase", found[1], str(draft)]
        subprocess.run([*command, "http://deb.debian.org/debian"], check=True, stdout=sys.stderr)
        shutil.rmtree(draft / "var/cache/apt/archives", ignore_errors=True)
        for leftover in ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt/lists"):
            shutil.rmtree(draft / leftover, ignore_errors=True)  # as the slim images are
            made(draft / leftover)
        made(draft / "var/cache/apt/archives/partial")
        draft.rename(place)
    return place


class Container:
    """The image, started."""

    def __init__(self, stage: Stage, work: pathlib.Path) -> None:
        self.stage, self.work = stage, work
        self.uid, self.gid = map(int, stage.user.split(":"))
        [self.volume] = json.loads(stage.settings["VOLUME"])
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, environment: dict[str, str]) -> None:
        settings = self.stage.settings
        command = json.loads(settings["ENTRYPOINT"]) + json.loads(settings["CMD"])
        root, volume = shlex.quote(str(self.stage.root)), self.work / "volume"
        if not volume.exists():  # an engine fills a new volume with what the image has there
            inside = str(self.stage.root / self.volume.lstrip("/"))
            subprocess.run(["cp", "-a", inside, str(volume)], check=True)
        runtime = f"mode=750,uid={self.uid},gid={self.gid}"
        steps = [
            f"mount --bind {root} {root}",
            f"mount --bind {volume} {root}{self.volume}",
            f"mount -t tmpfs -o {runtime} tmpfs {root}/run/zapvisor",
            f"mount -t tmpfs tmpfs {root}/tmp",
            f"mount -t proc proc {root}/proc",
            f"mount --bind /dev {root}/dev",
            f"mount -o remount,bind,ro {root}",
            f"exec {self._as_user(command)}",
        ]
        log = (self.work / "log").open("ab")
        self.process = subprocess.Popen(
            [
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "sh",
                "-c",
                " && ".join(steps),
            ],
            env={**self.stage.environment, **environment},
            stdout=log,
            stderr=log,
        )

    def _as_user(self, command: list[str]) -> str:
        words = ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups"]
        words += ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        inner = f"cd {shlex.quote(self.stage.directory)} && exec {shlex.join(command)}"
        return f"chroot {shlex.quote(str(self.stage.root))} " + shlex.join(
            [*words, "/bin/sh", "-c", inner]
        )

    @property
    def pid(self) -> int:
        """Of the daemon, as this machine sees it."""
        assert self.process is not None
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        return int(pathlib.Path(children).read_text().split()[0])

    def execute(self, command: list[str]) -> "subprocess.CompletedProcess[str]":
        """As ``exec`` of an engine does."""
        return subprocess.run(
            [
                *("nsenter", f"--target={self.pid}", "--mount", "--pid"),
                *("sh", "-c", f"exec {self._as_user(command)}"),
            ],
            env=self.stage.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def healthy(self) -> float:
        """Seconds until HEALTHCHECK is content."""
        check = json.loads(self.stage.settings["HEALTHCHECK"].partition(" CMD ")[2])
        began = time.monotonic()
        while time.monotonic() - began < DEADLINE:
            assert self.process is not None
            if self.process.poll() is not None:
                sys.exit(f"the daemon ended:\n{self.log()}")
            with contextlib.suppress(IndexError, FileNotFoundError):
                if self.execute(check).returncode == 0:
                    return time.monotonic() - began
            time.sleep(0.5)
        sys.exit(f"it did not become healthy:\n{self.log()}")

    def stop(self) -> float:
        """By STOPSIGNAL; seconds until it has ended."""
        assert self.process is not None
        began = time.monotonic()
        os.kill(self.pid, signal.Signals[self.stage.settings["STOPSIGNAL"]])
        status = self.process.wait(timeout=60)
        if status != 0:
            sys.exit(f"it ended with {status}:\n{self.log()}")
        return time.monotonic() - began

    def log(self) -> str:
        return (self.work / "log").read_text(encoding="utf-8", errors="replace")[-3000:]


def try_out(stage: Stage, work: pathlib.Path) -> dict[str, object]:
    """Start it twice on one volume, and look."""
    facts: dict[str, object] = {}
    container = Container(stage, work)
    try:
        for run in ("first", "second"):
            container.start({"ZAPVISOR_CONNECTIONS": "sales", "ZAPVISOR_HTTP_LISTEN": ""})
            facts[f"{run}_healthy_seconds"] = round(container.healthy(), 1)
            status = pathlib.Path(f"/proc/{container.pid}/status").read_text(encoding="utf-8")
            fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            if fields["Uid"].split() != [str(container.uid)] * 4:
                sys.exit(f"it runs as {fields['Uid']}")
            if int(fields["CapBnd"], 16) or fields["NoNewPrivs"].strip() != "1":
                sys.exit("it has capabilities")
            size = container.execute(["zapvisor", "db", "size", "--json"])
            if size.returncode != 0 or json.loads(size.stdout)["connections"][0]["name"] != "sales":
                sys.exit(f"db size: {size.stdout} {size.stderr}")
            for command in (["install-systemd", "--dry-run"], ["upgrade-check"], ["version"]):
                done = container.execute(["zapvisor", *command])
                if done.returncode != 0:
                    sys.exit(f"{command}: {done.stdout} {done.stderr}")
            if container.execute(["sh", "-c", "touch /etc/x /opt/x /usr/x"]).returncode == 0:
                sys.exit("the root can be written to")
            facts[f"{run}_stop_seconds"] = round(container.stop(), 1)
    finally:
        if container.process is not None and container.process.poll() is None:
            container.process.kill()
            container.process.wait()
    return facts


def measure(root: pathlib.Path, base_root: pathlib.Path) -> dict[str, object]:
    """Roughly: bytes on disk, and as an archive, in MB."""

    def disk(place: pathlib.Path) -> int:
        words = subprocess.run(["du", "-sx", "-B1", str(place)], capture_output=True, check=True)
        return int(words.stdout.split()[0])

    archive = subprocess.run(
        f"tar -C {shlex.quote(str(root))} -c . | gzip -1 | wc -c",
        shell=True,
        capture_output=True,
        check=True,
    )
    return {
        "image_megabytes": disk(root) // 1_000_000,
        "of_which_base": disk(base_root) // 1_000_000,
        "compressed_megabytes": int(archive.stdout) // 1_000_000,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", help="keep the base system here for the next time")
    parser.add_argument("--keep", action="store_true", help="leave the built root in there")
    options = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        sys.exit("the rehearsal needs root and debootstrap")
    work = pathlib.Path(options.work or tempfile.mkdtemp(prefix="zv-image-", dir="/var/tmp"))
    work.mkdir(parents=True, exist_ok=True)
    try:
        shutil.rmtree(work / "volume", ignore_errors=True)
        stage = build(work)
        facts = try_out(stage, work)
        facts |= measure(stage.root, next(work.glob("base-*")))
        facts["not_rehearsed"] = [
            "layers and the registry's base image",
            "the engine's seccomp profile and networks",
            "port publishing and compose",
        ]
        print(json.dumps(facts, indent=2))
    finally:
        if not options.work:
            shutil.rmtree(work, ignore_errors=True)
        elif not options.keep:
            for leftover in ("build", "final", "volume", "log"):
                place = work / leftover
                shutil.rmtree(place, ignore_errors=True) if place.is_dir() else place.unlink(True)


if __name__ == "__main__":
    main()
