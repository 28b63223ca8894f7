"""Look after a cluster: what is wrong with it, what may go, and an index made anew."""
