//! The figures that say how fast and how cheap hastmon is, as a table: of the programs that were just built, or of others, side by side. It
//! measures, and never fails on a time. `bench/run` builds all that it takes and calls it; `bench/run --help` has its options.
//!
//! The clusters are the tests' laboratories, on hosts of their own (network namespaces), so it takes root. Each measurement is made by a
//! process of its own: what fails in one programs' laboratory is a gap in the table and no end of it, and HASTMON_TEST_PROGRAMS
//! chooses the programs. HASTMON_TEST_STATE_IN=DIR chooses the disk for the votes.

fn main() {
    // `cargo test --all-targets` runs benchmarks as well, to see that they can be built.
    #[cfg(test)]
    if std::env::args().any(|word| word == "--bench") {
        run::main();
    }
}

#[cfg(test)]
#[path = "../../tests/support/mod.rs"]
#[expect(dead_code, reason = "the figures use a part of what the tests use")]
mod support;

#[cfg(test)]
mod cluster;
#[cfg(test)]
mod costs;
#[cfg(test)]
mod failover;
#[cfg(test)]
mod run;
#[cfg(test)]
mod start;
#[cfg(test)]
mod table;
