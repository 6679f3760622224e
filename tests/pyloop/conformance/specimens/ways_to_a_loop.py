"""Each test takes one of the ways by which CPython's tests come to a loop: all must be ours."""

import asyncio
import unittest
import warnings


async def running_loop():
    return asyncio.get_running_loop()


def reset_policy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(None)


class Ways(unittest.TestCase):
    def use(self, loop):
        self.assertIs(loop.run_until_complete(running_loop()), loop)
        loop.close()

    def test_new_event_loop(self):
        self.use(asyncio.new_event_loop())

    def test_new_event_loop_after_the_policy_was_reset(self):
        reset_policy()
        self.use(asyncio.new_event_loop())

    def test_policy(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            policy = asyncio.get_event_loop_policy()
        self.use(policy.new_event_loop())

    def test_selector_event_loop(self):
        self.use(asyncio.SelectorEventLoop())

    def test_unix_selector_event_loop(self):
        self.use(asyncio.unix_events._UnixSelectorEventLoop())

    @unittest.skipUnless(hasattr(asyncio, "EventLoop"), "3.13 and later")
    def test_event_loop(self):
        self.use(asyncio.EventLoop())

    def test_run(self):
        asyncio.run(running_loop())

    def test_runner(self):
        with asyncio.Runner() as runner:
            runner.run(running_loop())

    def test_loop_with_a_fake_clock(self):
        from test.test_asyncio import utils

        loop = utils.TestLoop()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    def test_loop_of_another_thread(self):
        import threading

        thread = threading.Thread(target=asyncio.run, args=(running_loop(),))
        thread.start()
        thread.join()


class Isolated(unittest.IsolatedAsyncioTestCase):
    async def test_isolated_asyncio_test_case(self):
        await asyncio.sleep(0)
