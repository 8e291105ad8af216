"""Faults of processes: drivers and workers that die, a torn file, two drivers, SIGTERM."""

import json
import os
import signal
from contextlib import suppress
from pathlib import Path

from tests.faults.scene import Fault, Result, Scene
from tests.faults.site import SEARCHED, SWEEP, Site

INTERRUPTED = 130


def driver_in_search(scene: Scene) -> Result:
    """kill -9 while trials of the search run."""
    return _driver_killed(scene.site(), stage="search")


def driver_in_confirm(scene: Scene) -> Result:
    """kill -9 while confirmed trials run."""
    return _driver_killed(scene.site(), stage="confirm")


def _driver_killed(site: Site, *, stage: str) -> Result:
    driver = site.start()
    moment = site.wait_for_moment(stage=stage)
    site.kill_driver(driver)
    return Result(moment=moment, verdict=site.complete())


def driver_before_tell(scene: Scene) -> Result:
    """The driver dies after an outcome is committed and before the sampler is told of it."""
    site = scene.site()
    driver = site.start()
    moment = site.wait_for_moment(stage="search")
    site.order("kill-ended")
    site.finish(driver)
    assert driver.returncode == -signal.SIGKILL, driver.returncode
    return Result(moment=moment, verdict=site.complete())


def driver_before_go_on(scene: Scene) -> Result:
    """The driver dies after an evaluation is committed and before the worker hears of it."""
    site = scene.site()
    driver = site.start()
    moment = site.wait_for_moment()
    site.order("kill-recorded")
    site.finish(driver)
    assert driver.returncode == -signal.SIGKILL, driver.returncode
    return Result(moment=moment, verdict=site.complete())


def worker(scene: Scene) -> Result:
    """kill -9 of a trial's worker at any moment: the running sweep starts the trial again."""
    site = scene.site()
    driver = site.start()
    moment = site.wait_for_moment()
    victim = site.worker_of(scene.random.choice(site.running()))
    with suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
    return _goes_on_by_itself(site, driver, moment)


def worker_before_sending(scene: Scene) -> Result:
    """The worker dies between measuring and sending, before or after it wrote its outbox."""
    site = scene.site()
    driver = site.start()
    moment = site.wait_for_moment()
    place = scene.random.choice(["measured", "outbox"])
    site.order(f"kill-{place}")
    result = _goes_on_by_itself(site, driver, f"{moment}, {_place(place)}")
    assert site.is_done(f"kill-{place}"), "no worker died"
    return result


def _place(place: str) -> str:
    return "before the outbox" if place == "measured" else "after the outbox"


def _goes_on_by_itself(site: Site, driver: object, moment: str) -> Result:
    """The sweep survives without a hand; the second start finds nothing to do."""
    code, said = site.finish(driver)  # type: ignore[arg-type]  # what start gave
    assert code == 0, said[-2000:]
    return Result(moment=moment, verdict=site.complete(), note="went on by itself")


def rank_in_collective(scene: Scene) -> Result:
    """One of a trial's two workers dies while it waits in an all-reduce for the other."""
    victim = scene.random.choice([0, 1])
    text = SWEEP.replace("max_concurrent = 3", "max_concurrent = 2\nworkers_per_trial = 2")
    scene.grounds.cluster_of(2)  # four CPUs: two trials of two workers
    site = scene.site(text=text, victim=victim, at_once=2)
    driver = site.start()
    moment = site.wait_for_moment()
    site.order("kill-rank")
    result = _goes_on_by_itself(site, driver, f"{moment}, rank {victim}")
    assert site.is_done("kill-rank"), "no rank died"
    return result


def torn_outbox(scene: Scene) -> Result:
    """Driver and workers die, and the last line of an outbox is cut at a random byte."""
    site = scene.site()
    driver = site.start()
    moment = site.wait_for_moment(has_measured=True)
    workers = {site.worker_of(trial) for trial in site.running()}
    site.kill_driver(driver)
    for process in workers:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    outboxes = [one for one in _outboxes(site) if one.stat().st_size]
    assert outboxes, "no trial had measured"
    torn = scene.random.choice(outboxes)
    content = torn.read_bytes()
    last = len(content.splitlines(keepends=True)[-1])
    cut = scene.random.randint(1, last - 1)
    torn.write_bytes(content[:-cut])
    return Result(moment=f"{moment}, {cut} of {last} bytes cut", verdict=site.complete())


def _outboxes(site: Site) -> list[Path]:
    return sorted((site.folder / "results" / "workspaces").glob("*/outbox.jsonl"))


def sigterm(scene: Scene) -> Result:
    """SIGTERM: the driver marks what runs as interrupted, gives back its claims and says so."""
    site = scene.site()
    driver = site.start()
    moment = site.wait_for_moment()
    driver.send_signal(signal.SIGTERM)
    code, said = site.finish(driver)
    assert (code, "Go on: bitsweep run" in said) == (INTERRUPTED, True), (code, said[-2000:])
    assert site.ask("SELECT * FROM claims") == []
    return Result(moment=moment, verdict=site.complete(), note="exit code 130, no claim left")


def two_drivers(scene: Scene) -> Result:
    """The same sweep started twice at once: each trial is trained by one of them."""
    site = scene.site(at_once=2)
    drivers = [site.start("--json"), site.start("--json")]
    site.wait_for(lambda: len(site.running()) >= 2, "two trials")
    ends = [site.finish(one) for one in drivers]
    assert [code for code, _ in ends] == [0, 0], ends
    verdict = site.complete()
    ran = [json.loads(said[said.index("{") :].splitlines()[0])["trials_run"] for _, said in ends]
    begun = [line["trial"] for line in site.ledger() if line["event"] == "begun"]
    assert len(begun) == len(set(begun)), "a trial was trained by both"
    assert site.ask(SEARCHED) == [(6,)], "the drivers searched more than one would"
    return Result(moment="both from the start", verdict=verdict, note=f"ran {ran[0]} and {ran[1]}")


FAULTS = (
    Fault(name="driver-search", means="kill -9 of the driver in search", strikes=driver_in_search),
    Fault(
        name="driver-confirm", means="kill -9 of the driver in confirm", strikes=driver_in_confirm
    ),
    Fault(
        name="driver-before-tell",
        means="kill -9 of the driver between record and tell",
        strikes=driver_before_tell,
    ),
    Fault(
        name="driver-before-go-on",
        means="kill -9 of the driver between commit and acknowledgement",
        strikes=driver_before_go_on,
    ),
    Fault(name="worker", means="kill -9 of a trial's worker", strikes=worker),
    Fault(
        name="worker-before-sending",
        means="kill -9 of a worker between measuring and sending",
        strikes=worker_before_sending,
    ),
    Fault(name="rank", means="death of a rank inside a collective", strikes=rank_in_collective),
    Fault(name="torn-outbox", means="torn last line of an outbox", strikes=torn_outbox),
    Fault(name="sigterm", means="SIGTERM of the driver", strikes=sigterm),
    Fault(name="two-drivers", means="two drivers of one sweep at once", strikes=two_drivers),
)
