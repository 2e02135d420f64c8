//! The controller: queue, observation, passes, execution, resync.
