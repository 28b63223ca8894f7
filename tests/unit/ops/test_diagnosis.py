"""What is well, and what is not."""

import pytest

from datafab.ops import diagnosis
from datafab.ops.diagnosis import Level, Worker

GOOD = {
    "redis_version": "7.0.15",
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "maxmemory_policy": "noeviction",
    "used_memory": 1000,
    "maxmemory": 0,
}
GIB = 1024**3
HERE = Worker(version="0.1.0", host="one", kernel="1", store="/srv/store", index="sqlite:////srv/index.db")


def bad(checks):
    return {check.name: check.level for check in checks if check.level is not Level.OK}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, {}),
        ({"redis_version": "6.2.0"}, {}),
        ({"redis_version": "6.0.16"}, {"redis version": Level.BROKEN}),
        ({"redis_version": "5.0.7"}, {"redis version": Level.BROKEN}),
        ({"aof_enabled": 0}, {"redis persistence": Level.BROKEN}),
        ({"aof_last_write_status": "err"}, {"redis persistence": Level.BROKEN}),
        ({"aof_last_bgrewrite_status": "err"}, {"redis persistence": Level.BROKEN}),
        ({"maxmemory_policy": "allkeys-lru"}, {"redis eviction": Level.BROKEN}),
        ({"maxmemory_policy": "volatile-ttl"}, {"redis eviction": Level.BROKEN}),
        ({"maxmemory": 1100}, {"redis memory": Level.WARNING}),
        ({"maxmemory": 2000}, {}),
        ({"cluster_enabled": 1}, {"redis mode": Level.BROKEN}),
    ],
)
def test_a_redis_is_judged_by_what_it_tells(change, found):
    assert bad(diagnosis.redis(GOOD | change)) == found


@pytest.mark.parametrize(
    ("check", "level"),
    [
        (diagnosis.clock(0.3), Level.OK),
        (diagnosis.clock(-3), Level.WARNING),
        (diagnosis.clock(3600), Level.BROKEN),
        (diagnosis.disk("disk", "/srv", 20 * GIB, 10 * GIB), Level.OK),
        (diagnosis.disk("disk", "/srv", 5 * GIB, 10 * GIB), Level.WARNING),
        (diagnosis.disk("disk", "/srv", GIB // 8, GIB // 16), Level.BROKEN),
        (diagnosis.tick(1.5), Level.OK),
        (diagnosis.tick(600), Level.BROKEN),
    ],
)
def test_what_is_not_well_comes_with_what_to_do(check, level):
    assert check.level is level
    assert bool(check.fix) is (level is not Level.OK)


def test_the_side_on_which_a_clock_is_wrong_is_told():
    assert diagnosis.clock(3).found == "3.0 s ahead of Redis's"
    assert diagnosis.clock(-3).found == "3.0 s behind Redis's"


def test_a_queue_that_nobody_serves_is_named():
    workers = {"io@a": HERE.evolve(queues=("io",)), "io@b": HERE.evolve(queues=("io", "control")), "old@c": None}
    found = {check.name: check for check in diagnosis.queues(workers)}
    assert found["queue io"].found == "2 workers"
    assert bad(found.values()) == {"queue cpu": Level.WARNING}
    assert found["queue cpu"].found == "no worker of this version answers"
    assert [check.found for check in diagnosis.queues({})] == ["no worker answers"] * 3


@pytest.mark.parametrize(
    ("there", "level", "says"),
    [
        (HERE, None, ""),
        (HERE.evolve(host="container"), None, ""),
        (None, Level.WARNING, "unknown of io@x"),
        (HERE.evolve(version="0.2.0"), Level.WARNING, "0.2.0 of io@x, here it is 0.1.0"),
        (HERE.evolve(store="/other"), Level.BROKEN, "/other of io@x, here it is /srv/store"),
        (HERE.evolve(index="http://e:9200/x"), Level.BROKEN, "http://e:9200/x of io@x, here it is sqlite:"),
        (HERE.evolve(host="other", kernel="2"), Level.BROKEN, "a file, and there are the hosts one, other"),
    ],
)
def test_workers_that_do_not_agree_are_named(there, level, says):
    checks = list(diagnosis.agreement(HERE, {"io@x": there}))
    assert [check.level for check in checks] == ([level] if level else [])
    assert all(says in check.found and check.fix for check in checks)


def test_workers_with_the_same_difference_are_named_together():
    other = HERE.evolve(store="/other")
    (check,) = diagnosis.agreement(HERE, {"io@b": other, "io@a": other, "io@c": HERE})
    assert check.found.startswith("/other of io@a, io@b, here")


def test_hosts_may_share_a_server_s_index():
    here = HERE.evolve(index="http://e:9200/x")
    assert list(diagnosis.agreement(here, {"io@x": here.evolve(host="other", kernel="2")})) == []


def test_a_misspelt_setting_is_told_with_what_it_may_be_meant_for():
    known = ["DATAFAB_REDIS_URL", "DATAFAB_HOME"]
    misspelt, other = diagnosis.unknown(["DATAFAB_REDISURL", "DATAFAB_X"], known)
    assert (misspelt.level, misspelt.fix.partition(";")[0]) == (Level.WARNING, "did you mean DATAFAB_REDIS_URL?")
    assert other.fix.startswith("remove it")
