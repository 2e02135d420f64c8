//! Tests of agent: see the module docs of what is tested.
