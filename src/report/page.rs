//! Pages of the gateway, as pure functions from a view to HTML.
