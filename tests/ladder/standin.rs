//! Tests of standin: see the module docs of what is tested.
