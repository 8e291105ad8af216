"""Faults of a cluster: the head dies, a job's driver, a node; a node whose trials all fail."""

import os
import signal

from tests.faults.scene import Fault, Result, Scene
from tests.faults.site import SWEEP, Site

TOGETHER = SWEEP.replace("max_concurrent = 3", "max_concurrent = 4")


def head(scene: Scene) -> Result:
    """The head node dies with the submitted job's driver; the job is sent to a new cluster."""
    first = scene.own_cluster()
    site = scene.site(cluster=first)
    _submit(site)
    moment = site.wait_for_moment()
    first.kill_head()
    first.close()
    site.cluster = scene.own_cluster()
    return Result(moment=moment, verdict=site.complete_by_submit(), note="sent to a new cluster")


def _submit(site: Site) -> None:
    sent = site.bitsweep(*site.submission(), "--no-wait")
    assert sent.returncode == 0, sent.stderr


def job_driver(scene: Scene) -> Result:
    """kill -9 of the driver of a submitted job; the job is submitted again."""
    site = scene.site()
    _submit(site)
    moment = site.wait_for_moment()
    owner = str(site.ask("SELECT owner FROM claims")[0][0])
    os.kill(int(owner.split(":")[1]), signal.SIGKILL)
    return Result(moment=moment, verdict=site.complete_by_submit(), note="submitted again")


def _one_more_node(scene: Scene) -> tuple[int, str]:
    """Beside the head's three CPUs one on a node of its own: four trials need it."""
    cluster = scene.grounds.cluster
    cluster.keep_the_head_alone()
    number = cluster.add_node()
    return number, cluster.address_of(number)


def node(scene: Scene) -> Result:
    """A node dies with the trials on it; they are tried again on others."""
    number, address = _one_more_node(scene)
    site = scene.site(text=TOGETHER, at_once=4)
    driver = site.start()
    moment = site.wait_for_moment()
    site.wait_for(lambda: address in map(site.node_of, site.running()), "a trial on the node")
    scene.grounds.cluster.kill_node(number)
    code, said = site.finish(driver)
    assert code == 0, said[-2000:]
    return Result(moment=moment, verdict=site.complete(), note="went on by itself")


def sick_node(scene: Scene) -> Result:
    """Every trial fails on one node: they are tried elsewhere, and the node is put aside."""
    number, address = _one_more_node(scene)
    site = scene.site(text=TOGETHER, at_once=4, bad_node=address)
    driver = site.start()
    moment = site.wait_for_moment()
    site.order("sick-node")
    code, said = site.finish(driver)
    refused = sum(line["event"] == "refused" for line in site.ledger())
    scene.grounds.cluster.kill_node(number)
    assert code == 0 and refused > 0, (refused, said[-2000:])
    put_aside = f"node {address} gets no further trial" in said
    note = f"{refused} failed there, all finished elsewhere"
    return Result(
        moment=moment,
        verdict=site.complete(),
        note=f"{note}; node put aside" if put_aside else note,
    )


FAULTS = (
    Fault(name="job-driver", means="kill -9 of the driver of a submitted job", strikes=job_driver),
    Fault(name="node", means="loss of a whole node in mid-trial", strikes=node),
    Fault(name="sick-node", means="one node whose trials all fail", strikes=sick_node),
    Fault(name="head", means="death of the head node and its job's driver", strikes=head),
)
