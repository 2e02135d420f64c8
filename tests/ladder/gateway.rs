//! Tests of gateway: see the module docs of what is tested.
