"""What every chain stands on: items, jobs and their ledger, stages and flows, the runner, and clients on demand."""
