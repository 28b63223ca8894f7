"""The cluster on this host: Redis, MQTT broker, workers, beat, webhook and Flower as child processes of this one."""

from datafab.embedded.address import free_port
from datafab.embedded.cluster import ALL, CORE, Cluster, ClusterFile, running
from datafab.embedded.exposed import check_exposed, is_exposed
from datafab.embedded.login import flower_login
from datafab.embedded.logs import tail
from datafab.embedded.redis_server import find_redis, redis_command
from datafab.embedded.supervisor import State

__all__ = [
    "ALL",
    "CORE",
    "Cluster",
    "ClusterFile",
    "State",
    "check_exposed",
    "find_redis",
    "flower_login",
    "free_port",
    "is_exposed",
    "redis_command",
    "running",
    "tail",
]
