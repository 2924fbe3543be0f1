"""The promise of attnstore.pipeline.orphans: a process ends when the other end of its input is closed."""

import subprocess
import sys

import pytest

STARTED = (
    "from attnstore.pipeline.orphans import end_with_the_run\n"
    "end_with_the_run()\nprint('begun', flush=True)\n"
    "while True: pass  # as busy as an import of torch"
)


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe can't be watched there")
def test_a_process_that_has_read_nothing_yet_ends_when_its_input_does():
    """Even if the pipe still holds data that it has not read."""
    child = subprocess.Popen([sys.executable, "-c", STARTED], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(b"unread")
        child.stdin.flush()
        assert child.stdout.readline() == b"begun\n"
        assert child.poll() is None
        child.stdin.close()
        assert child.wait(60) == 1
    finally:
        child.kill()
        child.stdout.close()
