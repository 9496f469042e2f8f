//! Clusters with the lease: a fixed set of random runs, and what must take how long.
