"""All stages: the one list. One more stage is one file here and one line below."""

from __future__ import annotations

from datafab.analysis import stages as analyse
from datafab.archive import deliver_stages as archive_deliver
from datafab.archive import plan_stages as archive_plan
from datafab.archive import stages as archive
from datafab.catalogue import fetch_stages as check
from datafab.catalogue import revisit_stages as again
from datafab.catalogue import source_stages as source
from datafab.catalogue import stages as catalogue
from datafab.collect import check_url_stage as checkurl
from datafab.collect import endpoints_stage as endpoints
from datafab.collect import save_csv_stage as collection
from datafab.collect import stages as collect
from datafab.core.stage import Stage
from datafab.index import stages as index
from datafab.publish import stages as publish
from datafab.push import callback_stages as callback
from datafab.push import datastore_stages as datastore
from datafab.push import restore_stages as ckan_restore
from datafab.push import stages as push

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
