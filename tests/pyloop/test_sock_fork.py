"""sock_* calls in a forked child and in its parent: neither takes anything from the other."""

from __future__ import annotations

from support.children import expect_lines, run_program


def test_a_forked_child_and_its_parent_go_on_with_their_sockets(kind: str) -> None:
    outcome = run_program(
        kind,
        """
        import asyncio, os, socket, sys
        loop = new_loop()
        near, far = socket.socketpair()
        near.setblocking(False)

        async def one(text):
            receiving = asyncio.ensure_future(loop.sock_recv(near, 10))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            far.send(text)
            assert await asyncio.wait_for(receiving, 5) == text

        loop.run_until_complete(one(b"warm"))
        child = os.fork()
        if child == 0:
            near.close()
            far.close()
            near, far = socket.socketpair()
            near.setblocking(False)
            loop.run_until_complete(one(b"child"))
            loop.run_until_complete(one(b"again"))
            loop.close()
            say("child done")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        loop.run_until_complete(one(b"parent"))
        loop.run_until_complete(one(b"again"))
        loop.close()
        near.close()
        far.close()
        say("parent done")
        """,
    )
    expect_lines(outcome, "child done", "parent done")


def test_a_forked_child_can_use_the_socket_that_its_parent_has_warmed(kind: str) -> None:
    outcome = run_program(
        kind,
        """
        import asyncio, os, socket
        loop = new_loop()
        near, far = socket.socketpair()
        near.setblocking(False)

        async def one(text):
            receiving = asyncio.ensure_future(loop.sock_recv(near, 10))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            far.send(text)
            assert await asyncio.wait_for(receiving, 5) == text

        loop.run_until_complete(one(b"warm"))
        for text in (b"one", b"two"):
            child = os.fork()
            if child == 0:
                loop.run_until_complete(one(text))
                loop.run_until_complete(one(text))
                os._exit(0)
            _, status = os.waitpid(child, 0)
            assert status == 0, status
            loop.run_until_complete(one(b"parent"))
        loop.close()
        near.close()
        far.close()
        say("done")
        """,
    )
    expect_lines(outcome, "done")
