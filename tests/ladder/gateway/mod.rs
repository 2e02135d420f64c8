//! The gateway over real sockets: what reaches which application, what passes through unchanged, what a
//! visitor sees when there is nothing to pass.

mod browser;
mod faults;
mod pages;
mod routing;
mod stage;
mod streaming;
