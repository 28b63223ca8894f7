"""The core that all chains use: items, jobs and their ledger, stages and flows, the runner, and shared clients."""
