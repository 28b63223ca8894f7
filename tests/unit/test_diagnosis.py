"""What is well, and what is not."""

import pytest

from datafab.domain import diagnosis
from datafab.domain.diagnosis import Level

GOOD = {
    "redis_version": "7.0.15",
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "maxmemory_policy": "noeviction",
    "used_memory": 1000,
    "maxmemory": 0,
}
GIB = 1024**3


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
    assert bad(diagnosis.queues({"io": 2, "control": 1})) == {"queue cpu": Level.WARNING}
