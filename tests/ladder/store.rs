//! Tests of store: see the module docs of what is tested.
