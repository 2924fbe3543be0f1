"""Promises of tests/nursery.py: what it forks is a process like any other."""

import os
import signal

import pytest
from nursery import Child


@pytest.mark.slow
def test_a_child_is_a_separate_process(monkeypatch, tmp_path) -> None:
    """Its code, arguments, folder, environment, streams and exit code are its own."""
    monkeypatch.chdir(tmp_path)
    code = (
        "import os, sys\n"
        "print(os.getpid(), os.getcwd(), sys.argv[1:], os.environ['GIVEN'], input())\n"
        "print('said', file=sys.stderr)\n"
        "sys.exit(7)"
    )
    with Child(code, "a b", 3, GIVEN="x") as child:
        out, err = child.communicate("a line\n")
    assert out == f"{child.pid} {tmp_path} ['a b', '3'] x a line\n"
    assert (err, child.returncode) == ("said\n", 7)
    assert child.pid != os.getpid()


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["a signal", "a fault", "the end of who asked"])
def test_a_child_ends_like_any_process(ending: str) -> None:
    """By a signal, which no handler catches; by a traceback; and never later than the process that requested it."""
    code = "import sys; print(flush=True); sys.stdin.read(); raise ValueError('no')"
    with Child(code) as child:
        assert child.stdout.readline() == "\n"
        assert child.poll() is None
        if ending == "a signal":
            child.send_signal(signal.SIGTERM)
        if ending == "a fault":
            assert child.communicate()[1].endswith("ValueError: no\n")
        elif ending == "a signal":
            assert child.wait() == -signal.SIGTERM
    assert child.returncode == {"a signal": -signal.SIGTERM, "a fault": 1}.get(ending, -signal.SIGKILL)


@pytest.mark.parametrize("said", ["nothing", "where to write", "all"])
def test_the_requesting_process_may_end_at_any_moment(said: str) -> None:
    """Killed before its request, or before it gets its child's number: nothing is printed, and no process remains."""
    code = """if True:
        import json, os, socket, sys
        import nursery
        here, there = socket.socketpair()
        if sys.argv[1] != "nothing":
            socket.send_fds(there, [b"\\n"], [0, 1, 2])
        if sys.argv[1] == "all":
            wanted = {"code": "import time; time.sleep(100)", "arguments": [], "environment": {}, "folder": "/"}
            there.sendall(json.dumps(wanted).encode() + b"\\n")
        there.close()
        exec(nursery._guard(here))
    """
    with Child(code, said) as child:
        assert child.communicate(timeout=20) == ("", "")
    assert child.returncode == 0
