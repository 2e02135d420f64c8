//! Convergence: the real controller and a real store in a simulated world, whatever that world does to them.
//!
//! [`world`] moves time, controllers and deliveries; [`truth`] says what must hold at any moment and at rest;
//! [`story`] makes up what happens to pull requests, and tells a failure again in as few words as it can.

mod adoption;
mod answers;
mod decoys;
mod economy;
mod fuse;
mod guards;
mod histories;
mod log;
mod matrix;
mod member;
mod permutations;
mod steps;
mod story;
mod sweep;
mod told;
mod truth;
mod words;
pub mod world;
