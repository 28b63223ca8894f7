"""All stages: the one list. One more stage is one file here and one line below."""

from __future__ import annotations

from datafab.analysis import stages as analyse
from datafab.core.stage import Stage
from datafab.index import stages as index
from datafab.stages import (
    again,
    archive,
    archive_deliver,
    archive_plan,
    callback,
    catalogue,
    check,
    checkurl,
    ckan_restore,
    collect,
    collection,
    datastore,
    endpoints,
    publish,
    push,
    source,
)

STAGES: dict[str, Stage] = {
    stage.name: stage
    for module in (
        endpoints,
        collect,
        collection,
        catalogue,
        source,
        again,
        check,
        checkurl,
        analyse,
        index,
        push,
        datastore,
        ckan_restore,
        callback,
        archive_plan,
        archive_deliver,
        archive,
        publish,
    )
    for stage in module.STAGES
}
