//! What the settings of a resource come to in time: the arithmetic that the machines go by, for those who tell of it.
//!
//! Decides how long each thing takes at most, or about; never waits for anything.

use crate::config::Resource;
use crate::lease::{Terms, with_drift};
use crate::time::Duration;

/// A renewal may be late by this part of a heartbeat, on a machine that has other things to do.
const PATIENCE_PARTS: u32 = 16;
/// The same, where nothing depends on it yet; a watchdog has asked by itself before.
const EARLY_PATIENCE_PARTS: u32 = 2;

/// A turn to start is held for so many heartbeats beyond what is waited for: a round of votes, the change of the worker, a `status`, and one
/// for what is late.
const TURN_BEATS: u32 = 4;

/// How long a lease of this resource lasts, and how long its `stop` may take.
pub fn terms(resource: &Resource) -> Terms {
    Terms { lease: resource.lease, stop: resource.stop_timeout }
}

/// How long after the last sign of a primary a watchdog makes complaint number `count`, counted from 1. Only the one that is enough has to come
/// as soon as it may: with those before it there is time for a sign that is late on a busy machine.
pub fn complaint_after(resource: &Resource, count: u32) -> Duration {
    let parts = if count < complaints_needed(resource) { EARLY_PATIENCE_PARTS } else { PATIENCE_PARTS };
    resource.heartbeat_interval * count + resource.heartbeat_interval / parts
}

/// How many complaints make a secondary stand.
pub const fn complaints_needed(resource: &Resource) -> u32 {
    resource.complaint_count.saturating_add(1)
}

/// How long after the last sign of a primary enough complaints have been made.
pub fn detection(resource: &Resource) -> Duration {
    complaint_after(resource, complaints_needed(resource))
}

/// How long after its last renewal the votes of a primary that has lost its power are free.
pub fn votes_free(resource: &Resource) -> Duration {
    with_drift(terms(resource).hold())
}

/// About how long after the last sign of a primary that has lost its power another node begins to start the resource.
pub fn takeover(resource: &Resource) -> Duration {
    detection(resource).max(votes_free(resource))
}

/// How long a primary may have its turn to start: after that others begin, whatever its `start` does.
pub fn turn_to_start(resource: &Resource) -> Duration {
    resource.start_timeout + resource.heartbeat_interval * TURN_BEATS
}

/// How long a secondary may have its turn without winning the lease.
pub fn turn_to_win(resource: &Resource) -> Duration {
    votes_free(resource) + resource.heartbeat_interval * TURN_BEATS
}
