"""Faults of a machine: trials that hang or leak, a full disk, a clock that is set back."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.scene import Fault, Result, Scene, Unavailable
from tests.faults.site import SEARCHED, SWEEP, Site

SOME_FAILED, BAD_INPUT = 1, 2
TMPFS_BYTES = 1_000_000
STORE_BYTES = 8_000_000


def hang(scene: Scene) -> Result:
    """A trial sleeps for ever in Python."""
    return _one_trial_fails(scene, "hang", budget="trial_minutes = 0.15", reason="timeout")


def deadlock(scene: Scene) -> Result:
    """A trial waits for ever in C, where no signal reaches it."""
    return _one_trial_fails(scene, "deadlock", budget="trial_minutes = 0.15", reason="timeout")


def leak(scene: Scene) -> Result:
    """A trial takes more and more memory."""
    limit = "memory_gib_per_worker = 0.6"
    return _one_trial_fails(scene, "leak", resources=limit, reason="memory")


def _one_trial_fails(
    scene: Scene, act: str, *, reason: str, budget: str = "", resources: str = ""
) -> Result:
    """The sick trial alone has failed, with its reason; it is well when it is tried again."""
    text = f"{SWEEP}{resources}\n[budget]\n{budget}\n"
    site = scene.site(text=text)
    driver = site.start()
    moment = site.wait_for_moment()
    site.order(act)
    code, said = site.finish(driver)
    failed = site.ask("SELECT reason FROM outcomes WHERE status <> 'finished'")
    assert code == SOME_FAILED and len(failed) == 1, (code, failed, said[-2000:])
    assert failed[0][0].startswith(f"{reason}: over"), failed
    verdict = site.complete("--retry", "failed")
    return Result(moment=moment, verdict=verdict, note=failed[0][0])


def disk_full(scene: Scene) -> Result:
    """The disk of the workspaces is full: the sweep stops and says so, and goes on afterwards."""
    with _small_disk(scene.folder / "small") as small:
        site = scene.site()
        site.words = ("--workspaces", str(small))
        driver = site.start()
        moment = site.wait_for_moment()
        ballast = small / "ballast"
        _fill(ballast)
        code, said = site.finish(driver)
        assert code == SOME_FAILED and "stopped: no space left" in said, (code, said[-2000:])
        refused, complaint = site.finish(site.start())
        assert (refused, "No space left" in complaint) == (2, True), (refused, complaint)
        ballast.unlink()
        verdict = site.complete()
    return Result(moment=moment, verdict=verdict, note="stopped with its reason")


def store_disk_full(scene: Scene) -> Result:
    """The disk of the store is full: a journal elsewhere takes what comes, until patience ends."""
    with _small_disk(scene.folder / "small", size=STORE_BYTES) as small:
        site = scene.site()
        site.store = str(small / "bitsweep.db")
        work = ("--workspaces", str(scene.folder / "work"))
        site.words = (*work, "--store-patience", "3")
        return _stops_and_goes_on(site, small, first="kept in", then="database or disk is full")


def all_disk_full(scene: Scene) -> Result:
    """One disk holds store, journal and workspaces, as by default, and it is full."""
    with _small_disk(scene.folder / "small", size=STORE_BYTES) as small:
        site = scene.site()
        site.store = str(small / "bitsweep.db")
        site.words = ("--store-patience", "3")
        return _stops_and_goes_on(site, small, first="", then="No space left on device")


def _stops_and_goes_on(site: Site, small: Path, *, first: str, then: str) -> Result:
    """The sweep ends with one sentence, and at once when it is started; with space it goes on."""
    driver = site.start()
    moment = site.wait_for_moment()
    ballast = small / "ballast"
    _fill(ballast)
    code, said = site.finish(driver)
    last = said.strip().splitlines()[-1]
    told = ["no space left" in said or "disk is full" in last, first in last]
    assert (code, told) == (SOME_FAILED, [True, True]), (code, said[-2000:])
    refused, complaint = site.finish(site.start())
    is_one_line = complaint.strip().count("\n") == 0 and then in complaint
    assert (refused, is_one_line) == (BAD_INPUT, True), (refused, complaint)
    ballast.unlink()
    return Result(moment=moment, verdict=site.complete(), note="stopped with its reason")


@contextmanager
def _small_disk(folder: Path, *, size: int = TMPFS_BYTES) -> Iterator[Path]:
    if os.getuid() != 0:
        raise Unavailable("a small disk is mounted by root alone")
    folder.mkdir()
    options = f"size={size}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode != 0:
        raise Unavailable(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(ballast: Path) -> None:
    """Write until nothing goes in any more."""
    with ballast.open("wb", buffering=0) as file:
        size = 65536
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2


def _clock_library(folder: Path) -> Path:
    """What shifts the clock of the processes that load it: libfaketime breaks Python's sleep."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise Unavailable("no C compiler: apt-get install gcc libc6-dev")
    library, source = folder / "clock.so", Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def clock_back(scene: Scene) -> Result:
    """The clock of the machine is set back an hour under two drivers of one sweep."""
    site = scene.site(local=True, at_once=2, seconds_per_epoch=0.4)
    clock = scene.folder / "clock"
    clock.write_text("0", encoding="ascii")
    site.environment = {
        "LD_PRELOAD": str(_clock_library(scene.folder)),
        "CLOCK_OFFSET_FILE": str(clock),
    }
    drivers = [site.start(), site.start()]
    moment = site.wait_for_moment()
    clock.write_text("-3600", encoding="ascii")
    ends = [site.finish(one) for one in drivers]
    assert [code for code, _ in ends] == [0, 0], ends
    begun = [line["trial"] for line in site.ledger() if line["event"] == "begun"]
    assert len(begun) == len(set(begun)), "a trial was trained by both"
    assert site.ask(SEARCHED) == [(6,)], "the drivers searched more than one would"
    hour = time.strftime("%Y-%m-%dT%H", time.gmtime(time.time() - 3600))
    newest = site.ask("SELECT recorded_at FROM evaluations ORDER BY id DESC LIMIT 1")
    assert newest[0][0].startswith(hour), f"the clock was not set back: {newest}"
    return Result(moment=moment, verdict=site.complete(), note="two drivers, one hour back")


FAULTS = (
    Fault(name="hang", means="a trial that hangs, in Python", strikes=hang),
    Fault(name="deadlock", means="a trial that hangs where no signal reaches", strikes=deadlock),
    Fault(name="leak", means="a trial that leaks memory", strikes=leak),
    Fault(name="disk-full", means="disk full for the workspaces", strikes=disk_full),
    Fault(name="store-disk-full", means="disk full for the store alone", strikes=store_disk_full),
    Fault(
        name="all-disk-full",
        means="disk full for store, journal and workspaces",
        strikes=all_disk_full,
    ),
    Fault(name="clock-back", means="the clock is set back an hour", strikes=clock_back),
)
