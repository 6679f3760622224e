"""One test for each thing that can go wrong in a module, and a good one at the end."""

import asyncio
import os
import time
import unittest
from asyncio import selector_events


class Ill(unittest.TestCase):
    def test_a_crashes(self):
        os.abort()

    def test_b_escapes(self):
        selector_events.BaseSelectorEventLoop().close()

    def test_c_fails(self):
        asyncio.new_event_loop().close()
        self.fail("on purpose")

    def test_d_fails_in_a_subtest(self):
        with self.subTest("inner"):
            self.fail("on purpose")

    def test_e_hangs(self):
        time.sleep(3600)

    def test_f_is_skipped(self):
        self.skipTest("on purpose")

    def test_g_makes_no_loop(self):
        self.assertTrue(asyncio.iscoroutinefunction(asyncio.sleep))

    def test_h_is_well(self):
        asyncio.run(asyncio.sleep(0))


class Unprepared(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise OSError("on purpose")

    def test_never_runs(self):
        pass
