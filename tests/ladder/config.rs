//! Tests of config: see the module docs of what is tested.
