//! HTTP of the controller: webhook endpoint, API, dashboard.

pub mod webhook;
