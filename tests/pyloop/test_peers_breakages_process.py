"""What breaks in other loops, as seen by running them: child processes.

Each test is named after the behaviour that must hold; the comment says which loop lost it and how.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest
from support.running import run_passes

_SHOW = (
    "import os; mask = os.umask(0);"
    "print(os.getuid(), os.getgid(), mask, os.getpgid(0) == os.getpid())"
)


@pytest.mark.slow
def test_a_child_takes_the_keywords_of_popen(loop: asyncio.SelectorEventLoop) -> None:
    # uvloop 0.23 refuses user, group, umask and process_group.
    async def main() -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-c", _SHOW,
            stdout=asyncio.subprocess.PIPE,
            user=os.getuid(), group=os.getgid(), umask=0o027, process_group=0,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert process.returncode == 0
        return output.decode().strip()

    expected = f"{os.getuid()} {os.getgid()} {0o027} True"
    assert loop.run_until_complete(main()) == expected


@pytest.mark.slow
@pytest.mark.parametrize("close", [True, False])
def test_a_child_obeys_close_fds_and_pass_fds(loop: asyncio.SelectorEventLoop, close: bool) -> None:
    # uvloop 0.23 ignores close_fds.
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    passed = () if not close else (writing,)
    look = f"import os; print([os.path.exists(f'/dev/fd/{{n}}') for n in ({reading}, {writing})])"

    async def main() -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-c", look,
            stdout=asyncio.subprocess.PIPE, close_fds=close, pass_fds=passed,
        )  # fmt: skip
        output, _ = await process.communicate()
        return output.decode().strip()

    try:
        expected = "[False, True]" if close else "[True, False]"
        assert loop.run_until_complete(main()) == expected
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.slow
def test_children_end_and_are_killed_and_their_codes_arrive(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def main() -> None:
        codes = await asyncio.gather(*(_exit_code(code) for code in (0, 3, 200)))
        assert codes == [0, 3, 200]
        sleeping = await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-c", "import time; time.sleep(60)"
        )
        sleeping.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(sleeping.wait(), 10) == -signal.SIGTERM

    async def _exit_code(code: int) -> int:
        process = await asyncio.create_subprocess_shell(f"exit {code}")
        return await process.wait()

    loop.run_until_complete(main())
    run_passes(loop, 2)
