"""Promises of attnstore.pipeline.on_ray: the actors of a cluster write the bytes of one process.

`make test-ray` runs a cluster on this machine. Rules that need no cluster are tested with a stand-in for Ray.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import attnstore

from attnstore.config import RunConfig, SourceConfig
from attnstore.errors import ModelError, StoreError, UsageError, WorkerError
from attnstore.events import Computed, Noted
from attnstore.pipeline import on_ray
from attnstore.pipeline.describe import versions
from attnstore.pipeline.on_ray import Actor, Cluster, Hand, _must_listen, _Node, threads_that_fit
from attnstore.pipeline.run import run
from attnstore.pipeline.wire import Hired, Loaded, Refused, Stop
from attnstore.pipeline.worker import _must_see
from attnstore.store.lent import lent_store
from attnstore.store.resume import create_or_resume


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus", "begun", "expected"),
    [
        ([(16, 0)] * 4, 4, 0, None, 16),
        ([(16, 0)] * 4, 8, 0, None, 8),
        ([(16, 0), (6, 0)], 3, 0, None, 6),  # two on the large machine
        ([(16, 0)] * 4, 5, 0, None, 8),
        ([(16, 0)] * 4, 8, 0, 4, 4),
        ([(4, 0)], 2, 0, 4, 2),  # with the store's number of threads, only one fits
        ([(32, 8)], 8, 1, None, 4),
        ([(2, 0)], 9, 0, None, 1),  # workers without room wait
        ([], 2, 0, None, 1),
    ],
)
def test_the_number_of_threads_leaves_room_for_all_workers(nodes, workers, gpus, begun, expected):
    """The number is the same for each worker, since the last bits of a value depend on it."""
    assert threads_that_fit([_Node(*node) for node in nodes], workers, gpus, begun) == expected


@pytest.mark.parametrize("address", ["", "somewhere", "http://host:1", "host:x", ":10001", "ray://host"])
def test_an_invalid_address_is_refused_in_one_line(address):
    with pytest.raises(UsageError) as raised:
        _must_listen(address)
    assert str(raised.value) == f"--ray {address}: it is local, auto, HOST:PORT or ray://HOST:PORT"


def test_an_address_where_nobody_listens_is_refused_in_one_line():
    """Ray itself would end the process."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # but does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(WorkerError) as raised:
            _must_listen(address)
    assert str(raised.value) == f"--ray {address}: no Ray cluster answers there: Connection refused"


def test_without_ray_one_line_says_what_to_install(tiny_model, reviews, tmp_path, monkeypatch):
    """Nothing is written."""
    monkeypatch.setitem(sys.modules, "ray", None)
    given = ("run", tmp_path / "s.attn", "--model", tiny_model, "--data", reviews, "--ray", "local")
    code, _, err = attnstore(*given)
    assert (code, err) == (2, "attnstore: --ray needs another package: pip install 'attnstore[ray]'\n")
    assert not (tmp_path / "s.attn").exists()


class RayError(Exception):
    """Like the class in ray.exceptions."""


class Ray:
    """A stand-in for Ray: calls are made at once; `gone` raises, `silent` never answers."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, *nodes: dict[str, float]) -> None:
        self.gone = self.silent = False
        self.killed: list[object] = []
        self._nodes = [{"Alive": True, "Resources": found} for found in nodes]

    def nodes(self) -> list[dict]:
        return self._nodes

    def is_initialized(self) -> bool:
        return True

    def wait(self, asked: list, timeout: float) -> tuple[list, list]:
        return ([], asked) if self.silent else (asked, [])

    def get(self, asked):
        if self.gone:
            raise RayError("The actor died.\n  The node has left.\nConnectionError: node 4 is gone")
        return asked()

    def kill(self, actor: object) -> None:
        self.killed.append(actor)


class Remote:
    """An actor's handle: a call is made when its result is fetched."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand

    def __getattr__(self, name: str) -> SimpleNamespace:
        method = getattr(self._hand, name)
        return SimpleNamespace(remote=lambda *given: lambda: method(*given))


CONFIG = RunConfig(SourceConfig("data"), "model", device="cpu", workers=3, ray="auto")


@pytest.fixture(autouse=True)
def _unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hand in this process would end the process ten minutes after its last request."""
    monkeypatch.setattr(Hand, "_watch", lambda _: None)


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Hand:
    monkeypatch.setattr(on_ray, "_SAID_WITHIN", 0.02)
    return Hand([], 1, versions(), socket.gethostname())


def test_an_actors_messages_arrive_in_order_and_end(hand, monkeypatch):
    """First its messages, then the message that it is done."""
    seen = []

    def work(wire, inbox, stop, hired, is_lent):
        wire.send(Loaded("a model"))
        seen.extend([hired.threads, inbox.get(), inbox.get(), stop.is_set(), is_lent()])
        wire.send(Loaded("another"))

    monkeypatch.setattr(on_ray, "work", work)
    actor = Actor(Ray(), Remote(hand))
    assert not actor.started
    actor.send(Hired(CONFIG, 7))
    assert actor.receive() == Loaded("a model")
    assert actor.started
    actor.send("a part")
    actor.send(Stop())
    assert actor.receive() == Loaded("another")
    with pytest.raises(EOFError):
        actor.receive()
    assert seen == [7, "a part", None, True, True]


def test_an_error_on_another_machine_names_the_machine(hand, monkeypatch):
    """It is an error of the same kind."""

    def work(*_):
        raise ModelError("model: no such folder")

    monkeypatch.setattr(on_ray, "work", work)
    monkeypatch.setattr(hand, "_where", "on node-4: ")
    actor = Actor(Ray(), Remote(hand))
    actor.send(Hired(CONFIG, 1))
    refused = actor.receive()
    assert isinstance(refused, Refused)
    assert (type(refused.error), str(refused.error)) == (ModelError, "on node-4: model: no such folder")


def test_a_bug_in_an_actor_ends_it_and_is_named(hand, monkeypatch, capsys):
    """The run does not wait for such a worker."""
    monkeypatch.setattr(on_ray, "work", lambda *_: 1 / 0)
    actor = Actor(Ray(), Remote(hand))
    actor.send(Hired(CONFIG, 1))
    with pytest.raises(EOFError):
        actor.receive()
    assert actor.how_it_ended() == "by ZeroDivisionError: division by zero"


def test_an_actor_with_other_versions_is_refused(monkeypatch):
    """The bytes depend on the versions."""
    monkeypatch.setattr(on_ray, "_SAID_WITHIN", 0.02)
    other = Hand([], 1, versions() | {"torch": "1.0"}, socket.gethostname())
    actor = Actor(Ray(), Remote(other))
    actor.send(Hired(CONFIG, 1))
    assert str(actor.receive().error) == (
        f"the workers would not compute the same: torch is {versions()['torch']} here, 1.0 in the run: install the same"
        " version everywhere"
    )


def test_a_lost_or_silent_actor_ends_with_a_reason(hand, monkeypatch):
    """Either Ray reports its end, or a time limit does. Before it has started there is no limit."""
    monkeypatch.setattr(on_ray, "_ANSWERS_WITHIN", 3)
    ray = Ray()
    gone, silent = Actor(ray, Remote(hand)), Actor(ray, Remote(hand))
    ray.gone = True
    with pytest.raises(OSError, match="The actor died"):
        gone.send("a part")
    with pytest.raises(EOFError):
        gone.receive()
    assert gone.how_it_ended() == "as Ray says: ConnectionError: node 4 is gone"
    looks = iter(range(10))

    def wait(asked: list, timeout: float) -> tuple[list, list]:
        return (asked, []) if next(looks) == 9 else ([], asked)

    ray.gone, ray.wait = False, wait
    assert silent._answer() == []  # nine checks for an actor that has not started
    ray.wait = Ray.wait.__get__(ray)
    ray.silent = True
    with pytest.raises(EOFError):
        silent.receive()
    assert silent.how_it_ended() == "without an answer for 3 seconds"
    silent.end()
    assert len(ray.killed) == 1


def test_an_abandoned_actor_writes_nothing(hand, monkeypatch):
    """Its run may have ended, and another run may hold the store's lock."""
    monkeypatch.setattr(on_ray, "_LOOKED_EVERY", 0.01)
    now = time.monotonic()
    clock = iter([20.0, 19.0, 18.0])
    slept = []

    def monotonic() -> float:
        return now + next(clock, 0.0)

    stand_in = SimpleNamespace(monotonic=monotonic, sleep=slept.append)
    monkeypatch.setattr(on_ray, "time", stand_in)
    hand._asked = now
    assert hand._is_lent()
    assert len(slept) >= 3


def test_a_cluster_without_room_for_all_says_so(monkeypatch):
    """In one line. The others start when there is room."""
    monkeypatch.setitem(sys.modules, "ray", Ray({"CPU": 4.0, "GPU": 1.0}, {"CPU": 8.0}))
    noted = []
    cluster = Cluster(replace(CONFIG, device="cuda", workers=2), None, noted.append)
    assert cluster.threads == 1
    assert noted == [
        Noted(
            "the cluster has room for 1 of 2 workers with 1 CPU and a GPU each: the others wait for more (--threads"
            " sets the CPUs)"
        )
    ]
    noted.clear()
    assert Cluster(CONFIG, None, noted.append).threads == 4
    assert noted == []


def test_a_numbered_gpu_is_refused():
    with pytest.raises(UsageError) as raised:
        Cluster(replace(CONFIG, device="cuda:1"), None, print)
    assert str(raised.value) == "--device cuda:1: with --ray, Ray chooses the GPUs: --device cuda"


def test_a_worker_that_does_not_see_the_runs_store_is_refused(tmp_path):
    """If each machine has its own disk, the worker's parts would be lost."""
    from small_store import manifest

    with create_or_resume(tmp_path / "store", manifest()) as store:
        _must_see(lent_store(store.path, store.manifest, lambda: True))
        with create_or_resume(tmp_path / "other", manifest(documents=4)) as other:
            for path, own in ((tmp_path / "nowhere", store.manifest), (other.path, store.manifest)):
                with pytest.raises(StoreError) as raised:
                    _must_see(lent_store(path, own, lambda: True))
                assert str(raised.value) == (
                    f"{path} is not the run's store here: several machines write one store on a shared folder, or in a"
                    " bucket (s3://…)"
                )


# -- a cluster on this machine ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def config(tiny_model: Path, reviews: Path) -> RunConfig:
    pytest.importorskip("ray", reason="Ray is not installed: make test-ray")
    return RunConfig(
        SourceConfig(str(reviews)), tiny_model.name, device="cpu", dtype="float32", max_length=40, part_size=5,
        reductions=("cls", "rollout"), threads=1, workers=2, ray="local",
    )  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(
    config: RunConfig, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """A store written by one process."""
    path = tmp_path_factory.mktemp("one") / "store.attn"
    run(replace(config, model=str(tiny_model), workers=1, ray=None), path)
    return content(path)


def content(store: Path) -> dict[str, bytes]:
    return {p.relative_to(store).as_posix(): p.read_bytes() for p in sorted(store.rglob("*.parquet"))}


def of_ray(what: str) -> list[int]:
    """Ray's processes that this process has started."""
    told = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in told.splitlines() if what in line and " ps " not in line]


def gone(what: str) -> bool:
    end = time.monotonic() + 60
    while of_ray(what) and time.monotonic() < end:
        time.sleep(0.1)
    return not of_ray(what)


needs_ps = pytest.mark.skipif(sys.platform == "win32", reason="looks for processes by ps")


@pytest.mark.slow
@needs_ps
def test_a_killed_actor_is_replaced_and_the_bytes_are_those_of_one_process(
    config, undisturbed, tiny_model, tmp_path, monkeypatch, capfd
):
    """Its part is computed again. No process of Ray remains, and Ray prints nothing."""
    monkeypatch.chdir(tiny_model.parent)
    killed: list[int] = []
    seen: list[object] = []

    def on_event(event: object) -> None:
        seen.append(event)
        if isinstance(event, Computed) and not killed:
            killed.extend(of_ray("ray::Hand")[:1])
            os.kill(killed[0], signal.SIGKILL)

    run(config, tmp_path / "store.attn", on_event=on_event)
    assert content(tmp_path / "store.attn") == undisturbed
    assert len(killed) == 1
    assert [event.documents for event in seen if isinstance(event, Computed)][-1] == 60
    assert [event for event in seen if isinstance(event, Noted)] == []
    assert gone("ray::Hand")
    assert gone("raylet/raylet")
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@needs_ps
def test_ctrl_c_leaves_no_process_of_ray(config, undisturbed, tiny_model, tmp_path, monkeypatch):
    """Begun parts are finished. One process then resumes to the same bytes."""
    monkeypatch.chdir(tiny_model.parent)
    asked: list[int] = []

    def on_event(event: object) -> None:
        if isinstance(event, Computed) and not asked:
            asked.append(os.kill(os.getpid(), signal.SIGINT))

    result = run(config, tmp_path / "store.attn", on_event=on_event)
    assert (result.interrupted, result.signal) == (True, signal.SIGINT)
    assert result.documents % 5 == 0
    assert gone("ray::Hand")
    assert gone("raylet/raylet")
    run(replace(config, workers=1, ray=None), tmp_path / "store.attn")
    assert content(tmp_path / "store.attn") == undisturbed


@pytest.mark.slow
def test_an_error_from_an_actor_is_the_same_line(config, tiny_model, tmp_path, monkeypatch):
    """It is found when the actor loads the model, and nothing is written."""
    monkeypatch.chdir(tiny_model.parent)
    with pytest.raises(UsageError) as raised:
        run(replace(config, reductions=("from_50",)), tmp_path / "store.attn")
    assert str(raised.value) == "from_50: documents are cut at 40 tokens here, the last at position 39"
    assert not (tmp_path / "store.attn").exists()
