"""Run a Dockerfile's steps where there is no Docker: `sudo python docs/batch/without_docker.py -- run`.

Each stage is a layer over this machine's own files (an overlay, in mounts of its own, so that nothing here is touched),
and each RUN a shell in a chroot of it. The base image is therefore this machine, which should be a Debian or an Ubuntu;
what is installed here already is not installed again. What follows `--` is given to the entry point, as the
image's user, and its exit code is this program's. Only what our Dockerfile uses is understood.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHROOT = shutil.which("chroot", path="/usr/sbin:/usr/bin:/sbin:/bin") or "chroot"
#: What of this machine's devices a stage has.
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


def steps(text: str) -> list[tuple[str, str]]:
    """(instruction, rest) of each step, lines that go on joined."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = [line.partition(" ") for line in joined.splitlines() if line.strip()]
    return [(name, rest.strip()) for name, _, rest in found]


def context(root: Path = ROOT) -> list[str]:
    """The files that .dockerignore leaves in the build's context, relative to the checkout."""
    patterns = [
        line
        for line in (root / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.splitlines() if not _ignored(name, patterns)]


def _ignored(name: str, patterns: list[str]) -> bool:
    """By the last pattern that matches the file, or a folder that it is in."""
    whole = [name, *map(str, Path(name).parents)]
    ignored = False
    for pattern in patterns:
        bare = pattern.removeprefix("!")
        if any(
            fnmatch(each, bare.removeprefix("**/")) if bare.startswith("**/") else _same(each, bare)
            for each in whole
        ):
            ignored = not pattern.startswith("!")
    return ignored


def _same(path: str, pattern: str) -> bool:
    """Whether a path is what a pattern means, whose star matches no slash."""
    return path.count("/") == pattern.count("/") and fnmatch(path, pattern)


@dataclass
class Stage:
    """A stage as it is built: a layer of its own over those before it, with what its steps have set."""

    merged: Path
    layers: list[str]
    environment: dict[str, str]
    folder: str = "/"
    user: str = "0:0"
    entry: list[str] = field(default_factory=list)
    default: list[str] = field(default_factory=list)

    def run(self, *command: str) -> int:
        """A command inside, in the stage's folder, as its user; its exit code."""
        number, _, group = self.user.partition(":")
        inside = [CHROOT, f"--userspec={number}:{group}", str(self.merged)]
        started = ["sh", "-c", 'cd "$0" && exec "$@"', self.folder, *command]
        return subprocess.run([*inside, *started], env=self.environment, check=False).returncode


def begun(work: Path, name: str, layers: list[str], environment: dict[str, str]) -> Stage:
    """A new stage over `layers`, the uppermost first."""
    upper, work_folder, merged = (work / name / part for part in ("upper", "work", "merged"))
    for folder in (upper, work_folder, merged):
        folder.mkdir(parents=True)
    options = f"lowerdir={':'.join([*layers, '/'])},upperdir={upper},workdir={work_folder}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(merged)], check=True)
    subprocess.run(["mount", "-t", "proc", "proc", str(merged / "proc")], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(merged / "dev")], check=True)
    (merged / "dev/shm").mkdir(mode=0o1777)
    for device in DEVICES:
        (merged / "dev" / device).touch()
        subprocess.run(["mount", "--bind", f"/dev/{device}", str(merged / "dev" / device)], check=True)
    return Stage(merged, [str(upper), *layers], dict(environment))


def build(work: Path, given: dict[str, str]) -> Stage:
    """Run the steps of the Dockerfile; the last stage. Ends the program at the first step that fails."""
    stages: dict[str, Stage] = {}
    arguments: dict[str, str] = {}
    stage: Stage | None = None
    clean = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    for name, rest in steps((ROOT / "Dockerfile").read_text()):
        print(f"{name} {rest}", flush=True)

        def filled(text: str) -> str:
            return re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], text)

        if name == "ARG":
            key, _, default = rest.partition("=")
            arguments[key] = given.get(key, default)
        elif name == "FROM":
            base, _, alias = filled(rest).partition(" AS ")
            below = stages[base].layers if base in stages else []
            stage = begun(work, f"stage{len(stages)}", below, clean)
            stages[alias or str(len(stages))] = stage
        elif stage is None:
            sys.exit(f"{name} stands before any FROM")
        elif name == "RUN":
            if code := stage.run("env", *(f"{k}={v}" for k, v in arguments.items()), "sh", "-c", rest):
                sys.exit(f"this step failed with exit code {code}: {rest}")
        elif name == "COPY":
            copy(stage, stages, rest)
        elif not settled(stage, name, rest):
            sys.exit(f"{name} is not understood")
    if stage is None:
        sys.exit("there is no FROM")
    return stage


def settled(stage: Stage, name: str, rest: str) -> bool:
    """Whether an instruction says how later commands run, and is kept."""
    if name == "ENV":
        stage.environment |= dict(item.split("=", 1) for item in shlex.split(rest))
    elif name == "USER":
        stage.user = rest
    elif name == "WORKDIR":
        stage.folder = rest
        (stage.merged / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
    elif name in ("ENTRYPOINT", "CMD"):
        setattr(stage, "entry" if name == "ENTRYPOINT" else "default", json.loads(rest))
    else:
        return False
    return True


def copy(stage: Stage, stages: dict[str, Stage], rest: str) -> None:
    """COPY, of the context or of another stage."""
    *options, source, target = rest.split()
    if options:
        other = stages[options[0].removeprefix("--from=")]
        where = stage.merged / target.lstrip("/")
        where.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(other.merged / source.lstrip("/"), where, symlinks=True)
        return
    folder = stage.merged / os.path.normpath(Path(stage.folder, target)).lstrip("/")
    for name in context():
        if source in (".", name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def main() -> None:
    """Build, then start the entry point: in a process with mounts of its own, which are gone when it ends."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("command", nargs="*")
    asked = parser.parse_args()
    work = os.environ.get("ATTNSTORE_IMAGE")
    if work is None:
        folder = tempfile.mkdtemp(prefix="attnstore-image-")
        again = ["unshare", "--mount", "--pid", "--fork", sys.executable, *sys.argv]
        code = subprocess.run(again, env=os.environ | {"ATTNSTORE_IMAGE": folder}, check=False).returncode
        Path(
            folder
        ).rmdir()  # empty: all that was there stood in mounts. Never more than that, whatever stands there.
        sys.exit(code)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", work], check=True)  # an overlay's layer is no overlay
    stage = build(Path(work), dict(item.split("=", 1) for item in asked.build_arg))
    sizes = subprocess.run(["du", "-sm", *stage.layers], capture_output=True, text=True, check=True).stdout
    print(f"layers in MB, the base left out:\n{sizes}{' '.join(stage.entry)}:", flush=True)
    sys.exit(stage.run(*stage.entry, *(asked.command or stage.default)))


if __name__ == "__main__":
    main()
