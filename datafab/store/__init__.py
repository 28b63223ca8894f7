"""Keep files by the digest of their content, in a folder or a bucket, and the scratch folders of running tasks."""
