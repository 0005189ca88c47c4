"""A browser that is left open for an hour, ten times as fast, does not grow."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from cellwatch.models import types as t

FASTER = 10
HOUR_S = 3600 / FASTER
STEP_S = 0.1 / FASTER
MOST_MB = 3.0  # between a settled page and the end


@pytest.mark.soak
def test_an_hour_at_ten_times_the_speed(cell, window):
    cell.plant(n=3)
    cell.attack()
    over = threading.Event()

    def live():
        k = 0
        while not over.wait(STEP_S):
            k += 1
            now = time.time_ns()
            at = np.full(3, now)
            cell.live.on_tags(
                t.TagBatch("PLC1", k, np.arange(3, dtype=np.uint32), 5 + np.sin(k / 50 + np.arange(3)),
                           np.zeros(3, np.uint32), at, at, now)
            )  # fmt: skip
            if k % 10 == 0:
                cell.judge(
                    decision=t.Screening.BLOCK if k // 300 % 2 else t.Screening.ALLOW, category="recon"
                )
                cell.health()
            if k % 100 == 0:
                cell.alarm(message=f"ports: {k}")
                cell.live.on_command(t.Command(f"c{k}", 1, "PLC1", "XS102_LOCK", 1.0, now, 2.0, "quarantine"))

    filler = threading.Thread(target=live, daemon=True)
    filler.start()
    one = window(cell.url)
    one.page.wait_for_selector(".chart canvas")
    one.page.click(".situation >> text=Why?")
    tools = one.context.new_cdp_session(one.page)

    def heap_mb():
        tools.send("HeapProfiler.collectGarbage")
        return one.page.evaluate("() => performance.memory.usedJSHeapSize") / 1e6

    one.page.wait_for_timeout(0.2 * HOUR_S * 1000)
    before, nodes = heap_mb(), one.page.evaluate("() => document.getElementsByTagName('*').length")
    one.page.wait_for_timeout(0.8 * HOUR_S * 1000)
    over.set()
    filler.join()
    assert heap_mb() - before < MOST_MB
    assert one.page.evaluate("() => document.getElementsByTagName('*').length") < nodes + 500
    assert not one.errors
