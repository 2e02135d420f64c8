//! Tests of forge: see the module docs of what is tested.
