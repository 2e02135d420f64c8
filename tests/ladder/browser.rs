//! Tests of browser: see the module docs of what is tested.
