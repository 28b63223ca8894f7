"""Load files into the datastore of a CKAN, behind the API of DataPusher."""
