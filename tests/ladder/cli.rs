//! Tests of cli: see the module docs of what is tested.
